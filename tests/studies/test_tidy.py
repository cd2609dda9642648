"""The tidy table: made, put together, written and read back."""

import math

import numpy as np
import pandas as pd
import pytest

from lipbounds.errors import LipboundsError
from lipbounds.studies import tidy

MINIMAL = {"treatment": "explicit", "norm": math.inf, "bound": "K_4", "value": 0.1 + 0.2}


def minimal(**other):
    return tidy.tidy(pd.DataFrame([MINIMAL]), test="test1", case="square1", **other)


def test_tidy_has_exactly_the_columns_in_order_and_seed_zero():
    frame = minimal(level=3)
    assert tuple(frame.columns) == tidy.TIDY_COLUMNS
    assert frame.loc[0, "seed"] == 0 and frame.loc[0, "level"] == 3
    assert frame[["exact", "depth", "architecture"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "colour"),
        ({"bound": "K_3"}, "'bound'.*constants"),
        ({"depth": "deep"}, "depth"),
    ],
)
def test_tidy_refuses(change, message):
    with pytest.raises(LipboundsError, match=message):
        minimal(**change)


def test_no_value_needs_a_reason_and_a_value_may_have_one(tmp_path):
    reasons = ["", "slow", "too large"]
    rows = pd.DataFrame([{**MINIMAL, "reason": reason} for reason in reasons])
    rows["value"] = rows["value"].where([True, True, False])
    frame = tidy.tidy(rows, test="test5", case="x")
    assert frame["value"].isna().tolist() == [False, False, True]
    assert frame["reason"].isna().tolist() == [True, False, False]
    tidy.write_csv(frame, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(tidy.read(tmp_path / "t.csv"), frame, check_exact=True)
    with pytest.raises(LipboundsError, match="row 2 has no 'value'"):
        tidy.tidy(rows.assign(reason=""), test="test5", case="x")


@pytest.mark.parametrize("column", ["value", "norm", "bound"])
def test_tidy_refuses_a_row_without(column):
    rows = pd.DataFrame([MINIMAL, {**MINIMAL, column: None}])
    with pytest.raises(LipboundsError, match=f"row 1 has no '{column}'"):
        tidy.tidy(rows, test="test1", case="x")


def test_what_is_written_is_read_back_exactly(tmp_path):
    frame = tidy.concat([minimal(level=3, exact=1 / 3), minimal(seed=7, architecture="pool")])
    tidy.write_csv(frame, tmp_path / "new" / "table.csv")
    again = tidy.read(tmp_path / "new" / "table.csv")
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    assert again.loc[0, "norm"] == math.inf
    first = (tmp_path / "new" / "table.csv").read_text().splitlines()[1].split(",")
    assert first[tidy.TIDY_COLUMNS.index("level")] == "3"
    assert first[tidy.TIDY_COLUMNS.index("norm")] == "inf"


def test_no_digit_of_a_float_is_lost(tmp_path):
    values = np.random.default_rng(0).lognormal(0, 50, size=500)
    rows = pd.DataFrame([MINIMAL] * 500).assign(value=values)
    tidy.write_csv(tidy.tidy(rows, test="test1", case="x"), tmp_path / "t.csv")
    assert (tidy.read(tmp_path / "t.csv")["value"].to_numpy() == values).all()


def test_concat_keeps_rows_and_their_order():
    frame = tidy.concat([minimal(level=level) for level in (2, 1)])
    assert list(frame["level"]) == [2, 1] and list(frame.index) == [0, 1]
    with pytest.raises(LipboundsError, match="no tables"):
        tidy.concat([])


def broken_files(whole: str):
    header, row, _ = whole.split("\n")
    return {
        "empty": ("", "not a readable CSV"),
        "cut in a row": (whole[:-5], "cut short"),
        "cut after the header": (f"{header}\n", "no rows"),
        "row cut, newline left": (f"{header}\n{row[:12]}\n", "row 0 has no"),
        "foreign": ("a,b\n1,2\n", "not a tidy table"),
        "more fields than columns": (f"{whole}{row},1,2\n", "not a readable CSV"),
        "extra column": (f"{header},x\n{row},1\n", "unknown columns"),
        "words for numbers": (f"{header}\n{row.replace('inf', 'big')}\n", "norm"),
        "binary": ("\udcff\udcfe\x00", "not a readable CSV|cut short"),
    }


@pytest.mark.parametrize("kind", broken_files("h\nr\n"))
def test_read_refuses_a_broken_file_and_names_it(tmp_path, kind):
    path = tmp_path / "table.csv"
    tidy.write_csv(minimal(), path)
    content, message = broken_files(path.read_text())[kind]
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(LipboundsError, match=message) as caught:
        tidy.read(path)
    assert "table.csv" in str(caught.value)


def test_read_says_which_table_is_missing(tmp_path):
    with pytest.raises(LipboundsError, match="no table .*absent.csv"):
        tidy.read(tmp_path / "absent.csv")
