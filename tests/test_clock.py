"""Limits of time: nested, on either clock, and how work is stopped."""

import math
import time

import pytest

from lipbounds import clock
from lipbounds.errors import LipboundsError


def test_no_limit_by_default():
    assert clock.left() == math.inf
    clock.check("anything")


def test_a_limit_never_exceeds_the_one_around_it():
    with clock.limited(1.0):
        with clock.limited(100.0):
            assert clock.left() <= 1.0
        with clock.limited(0.0):
            assert clock.left() <= 0
            with pytest.raises(clock.OutOfTime, match="the limit of seconds is over before K_4"):
                clock.check("K_4")
        assert 0 < clock.left() <= 1.0
    assert clock.left() == math.inf


def test_watched_begins_whatever_is_left_and_says_what_all_would_need():
    done = []
    with pytest.raises(LipboundsError, match=r"1 of 4 blocks took .* all would take about"):
        with clock.limited(0.0):
            for item in clock.watched("abcd", "K_1"):
                done.append(item)
    assert done == ["a"]
    assert list(clock.watched("abcd", "K_1")) == list("abcd")


def test_processor_time_does_not_pass_in_sleep():
    with clock.processor_time(), clock.limited(0.05):
        time.sleep(0.1)
        assert clock.left() > 0
    with clock.limited(0.05):
        time.sleep(0.1)
        assert clock.left() <= 0


def test_processor_time_forgets_limits_of_real_time():
    """The two clocks have nothing to do with each other."""
    with clock.limited(0.0), clock.processor_time():
        assert clock.left() == math.inf


def test_a_solvers_real_time_is_longer_by_the_share_of_the_processor(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: real)
    monkeypatch.setattr(time, "process_time", lambda: worked)
    real, worked = 10.0, 5.0
    assert clock.real(3.0) == 3.0
    with clock.processor_time():
        assert clock.real(3.0) == 3.0  # nothing is known yet
        real, worked = 14.0, 6.0
        assert clock.real(3.0) == 12.0
        real, worked = 14.0, 10.0  # on several processors
        assert clock.real(3.0) == 3.0
    assert clock.real(3.0) == 3.0
