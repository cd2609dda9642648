"""The one tidy table of all experiments: its columns, and how it is made, read and written.

One row is one bound of one network in one norm; the columns are :data:`TIDY_COLUMNS`, the same for
every test, so that one CSV serves every figure and a user needs nothing but pandas to read it.
Where a method gave no ``value``, ``reason`` says why; beside a value it says that the method was
stopped; else it is empty (NaN).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import LipboundsError
from .files import replacing

# Counts are floats in memory because most tests leave them empty; `write_csv` writes them whole.
COUNTS = ("level", "depth", "width", "sample", "parameters")
SCHEMA = {
    "test": "str",
    "case": "str",
    "seed": "int64",
    "treatment": "str",
    "norm": "float64",
    "bound": "str",
    "value": "float64",
    "lower": "float64",
    "seconds": "float64",
    "reason": "str",
    "lipschitz_lower": "float64",
    "exact": "float64",
    "relaxation_optimum": "float64",
    "family": "str",
    "level": "float64",
    "distribution": "str",
    "depth": "float64",
    "width": "float64",
    "sample": "float64",
    "architecture": "str",
    "accuracy": "float64",
    "parameters": "float64",
}
TIDY_COLUMNS = tuple(SCHEMA)
REQUIRED = ("test", "case", "treatment", "norm", "bound")


def tidy(frame: pd.DataFrame, **constants) -> pd.DataFrame:
    """``frame`` with the ``constants`` as further columns, in exactly the tidy schema.

    Columns that are absent become NaN (``seed``: 0), and so does an empty reason. Raises
    LipboundsError on a column the schema does not have, one given twice, a row without test, case,
    treatment, norm or bound, one with neither value nor reason, and a number that is none.
    """
    twice = sorted(set(constants) & set(frame.columns))
    if twice:
        raise LipboundsError(f"columns {twice} are in the frame and among the constants")
    return _conform(frame.assign(**constants), "the frame")


def concat(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tidy tables in one, in their order."""
    frames = [_conform(frame, f"table {i}") for i, frame in enumerate(frames)]
    if not frames:
        raise LipboundsError("no tables to put together")
    return pd.concat(frames, ignore_index=True)


def read(path: Path | str) -> pd.DataFrame:
    """The tidy table written by :func:`write_csv`; norms are floats, ``inf`` included.

    Raises LipboundsError if the file is missing, cut short, or not a tidy table.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        frame = pd.read_csv(path, low_memory=False)
    except FileNotFoundError:
        raise LipboundsError(f"no table {path}: run the rule that makes it") from None
    except (OSError, UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise LipboundsError(f"{path} is not a readable CSV file ({error}); remake it") from error
    if not content.endswith(b"\n"):
        raise LipboundsError(f"{path} is cut short in its last line; delete it and remake it")
    missing = [column for column in TIDY_COLUMNS if column not in frame.columns]
    if missing:
        raise LipboundsError(f"{path} is not a tidy table: it lacks the columns {missing}")
    if frame.empty:
        raise LipboundsError(f"{path} has a header but no rows; delete it and remake it")
    return _conform(frame, str(path))


def write_csv(frame: pd.DataFrame, path: Path | str) -> None:
    """Write any table as CSV, all or nothing; floats so that reading gives them back exactly."""
    whole = {column: "Int64" for column in COUNTS if column in frame.columns}
    with replacing(path) as part:
        frame.astype(whole).to_csv(part, index=False, lineterminator="\n")


def _conform(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    unknown = [column for column in frame.columns if column not in SCHEMA]
    if unknown:
        raise LipboundsError(
            f"{where} has unknown columns {unknown}; the tidy table has {list(TIDY_COLUMNS)}"
        )
    frame = frame.reindex(columns=TIDY_COLUMNS).fillna({"seed": 0})
    frame["reason"] = frame["reason"].replace("", np.nan)
    missing = frame.isna()
    for column in REQUIRED:
        _refuse(missing[column], f"has no {column!r}", where)
    _refuse(missing["value"] & missing["reason"], "has no 'value', and no 'reason' why", where)
    for column, dtype in SCHEMA.items():
        try:
            frame[column] = frame[column].astype(dtype)
        except (TypeError, ValueError) as error:
            raise LipboundsError(f"{where}: column {column!r} is not {dtype} ({error})") from error
    return frame


def _refuse(wrong: pd.Series, what: str, where: str) -> None:
    if wrong.any():
        raise LipboundsError(f"{where}: row {int(np.flatnonzero(wrong)[0])} {what}")
