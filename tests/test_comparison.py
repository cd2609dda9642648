"""All methods beside the truth on small networks: completeness, orderings, reasons."""

import math

import numpy as np
import pytest

import lipbounds as lb
from lipbounds.comparison import compare
from lipbounds.methods.registry import BOUNDS, Method
from lipbounds.studies.cases.analytic import square
from lipbounds.studies.cases.random import gaussian
from lipbounds.studies.tidy import tidy


def test_every_method_and_the_truth_on_one_network():
    network = gaussian([3, 4, 4, 2], 0)
    table = compare(network, seconds=20)
    assert (table["reason"] == "").all()
    assert set(table["bound"]) == set(BOUNDS) - {"best"} | {"D_star", "exact"}
    for norm, rows in table.groupby("norm"):
        truth = rows.iloc[0][["lipschitz_lower", "exact", "relaxation_optimum"]].astype(float)
        assert (rows["value"] >= truth["lipschitz_lower"]).all()
        others = rows[rows["bound"] != "exact"]
        assert (others["value"] >= truth["relaxation_optimum"] * (1 - 1e-9)).all()
        assert len(rows[rows["bound"] == "K_4"]) == 1, "a fully-connected network has one treatment"
        if norm == 2:
            assert math.isnan(truth["exact"])
        else:
            assert truth["lipschitz_lower"] <= truth["exact"] * (1 + 1e-9)
            assert truth["exact"] <= truth["relaxation_optimum"] * (1 + 1e-5)
    assert len(tidy(table, test="test5", case="one")) == len(table)


def test_known_constant_in_all_columns():
    table = compare(square(3), ["K_4", "K_3"], [1, math.inf], seconds=20)
    for column in ("lipschitz_lower", "exact", "relaxation_optimum"):
        np.testing.assert_allclose(table[column], 1.875, rtol=1e-4)


def test_a_method_that_refuses_leaves_its_reason(monkeypatch):
    def refuses(network, norm):
        raise lb.LipboundsError("at most 3 neurons")

    monkeypatch.setitem(BOUNDS, "refuses", Method("refuses", refuses, ""))
    seen = []
    table = compare(square(1), ["refuses", "K_4"], [1], seconds=5, progress=seen.append)
    row = table[table["bound"] == "refuses"].iloc[0]
    assert row["reason"] == "at most 3 neurons" and math.isnan(row["value"])
    assert table[table["bound"] == "K_4"]["value"].item() == pytest.approx(1.5)
    assert [row["bound"] for row in seen] == list(table["bound"])


def test_a_method_that_was_stopped_says_so():
    table = compare(gaussian([4, 12, 12, 3], 0), ["K_4"], [math.inf], seconds=0.01)
    optimum = table[table["bound"] == "D_star"].iloc[0]
    assert optimum["reason"].startswith("stopped by time: a gap of ")
    assert optimum["value"] > optimum["lower"] and math.isnan(optimum["relaxation_optimum"])
    assert table[table["bound"] == "K_4"]["reason"].item() == ""


def test_bad_arguments_raise_at_once():
    ensemble = lb.from_weights([np.ones((2, 1, 1))])
    with pytest.raises(lb.LipboundsError, match="not an ensemble"):
        compare(ensemble)
    with pytest.raises(lb.UnsupportedError, match="unknown bound 'K_9'"):
        compare(square(1), ["K_9"])
    seen = []
    with pytest.raises(lb.UnsupportedError, match="3"):
        compare(square(1), ["K_4"], [1, 3], progress=seen.append)
    assert not seen
    with pytest.raises(lb.LipboundsError, match="no norms"):
        compare(square(1), norms=[])
