"""The tables derived from the tidy one (see tidy.py), and how a table is printed."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import LipboundsError
from .files import write_text
from .labels import LABELS, TRUTH, plain
from .tidy import write_csv

SAMPLE = ["distribution", "norm", "depth", "width", "treatment", "seed", "sample"]
CELL = ["distribution", "norm", "depth", "width", "bound"]
QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}

# Certified bounds carry a rounding margin, so equal bounds may differ in the last digits.
ROUNDING = 1e-9
# The orderings of docs and spec, per norm: (smaller, larger) pairs that are theorems.
THEOREMS_L1_LINF = {
    "K_star": ["K_4 <= K_star"],
    "K_1": ["K_4 <= K_1", "K_1 <= K_star"],
    "K_3": ["K_4 <= K_3", "K_3 <= K_star"],
    "K_4": ["K_4 <= K_1", "K_4 <= K_3"],
    "K_5": ["K_5 <= K_4"],
}
THEOREMS_L2 = {
    "K_star": ["K_1 <= K_star"],
    "K_1": ["K_1 <= K_star"],
    "K_2": ["K_2 <= K_star"],
    "K_3": ["K_4 <= K_3"],
    "K_4": ["K_4 <= K_3"],
    "K_5": ["K_5 <= K_4", "K_5 <= K_1"],
}
THEOREMS = {1.0: THEOREMS_L1_LINF, 2.0: THEOREMS_L2, math.inf: THEOREMS_L1_LINF}

NORM_NAMES = {1.0: "1", 2.0: "2", math.inf: "∞"}
NONE = "–"
STOPPED = "†"
STOPPED_NOTE = "stopped by the time limit; the best proven value until then"


# ---------------------------------------------------------------------------- test 3: relations


def with_ratio(test3: pd.DataFrame) -> pd.DataFrame:
    """The rows with two more columns: ``K_4`` of the same network and norm, ``ratio`` = value/K_4.

    Raises LipboundsError if a bound of one network is there twice, or a row has no K_4 beside it.
    """
    rows = _rows_with(test3, [*SAMPLE, "bound", "value"])
    if rows.duplicated([*SAMPLE, "bound"]).any():
        first = rows[rows.duplicated([*SAMPLE, "bound"])].iloc[0]
        raise LipboundsError(f"two rows for {first[[*SAMPLE, 'bound']].to_dict()}")
    k4 = rows[rows["bound"] == "K_4"].set_index(SAMPLE)["value"]
    rows = rows.join(k4.rename("K_4"), on=SAMPLE)
    if rows["K_4"].isna().any():
        raise LipboundsError(f"{rows['K_4'].isna().sum()} rows have no K_4 of the same network")
    return rows.assign(ratio=rows["value"] / rows["K_4"])


def relations(test3: pd.DataFrame) -> pd.DataFrame:
    """How the bounds of test 3 relate, one row per (distribution, norm, depth, width, bound).

    ``samples`` with this bound, over which all that follows goes; the ratio bound/K_4:
    ``ratio_mean`` (geometric) and its quantiles; ``log_std`` and ``log_std_K_4``: standard
    deviation over samples of ln(bound) and ln(K_4); ``K_4_smaller``: the share of samples with
    K_4 <= bound; ``theorem``: the orderings with this bound that are proved, and
    ``theorem_holds``: the share of samples where they hold (it must be 1);
    ``over_optimum_mean``, ``over_optimum_min``: bound/D* where D* was enumerated (the minimum must
    be >= 1); ``growth_per_stage``: the factor by which the geometric mean of bound/K_4 grows with
    each further hidden stage, from a least-squares line through its logarithm against depth.
    """
    rows = with_ratio(test3)
    rows["holds"] = _theorem_holds(rows)
    rows["smaller"] = rows["K_4"] <= rows["value"] * (1 + ROUNDING)
    rows["over_optimum"] = rows["value"] / rows["relaxation_optimum"]
    rows["log_ratio"] = np.log(rows["ratio"])
    rows["log_value"], rows["log_K_4"] = np.log(rows["value"]), np.log(rows["K_4"])
    cells = rows.groupby(CELL)
    quantiles = cells["ratio"].quantile(list(QUANTILES.values())).unstack()
    quantiles.columns = [f"ratio_{name}" for name in QUANTILES]
    table = pd.concat(
        [
            cells.size().rename("samples"),
            np.exp(cells["log_ratio"].mean()).rename("ratio_mean"),
            quantiles,
            cells["log_value"].std().rename("log_std"),
            cells["log_K_4"].std().rename("log_std_K_4"),
            cells["smaller"].mean().rename("K_4_smaller"),
            cells["holds"].mean().rename("theorem_holds"),
            cells["over_optimum"].mean().rename("over_optimum_mean"),
            cells["over_optimum"].min().rename("over_optimum_min"),
        ],
        axis=1,
    ).reset_index()
    place = table.columns.get_loc("theorem_holds")
    table.insert(place, "theorem", _theorem_names(table))
    return table.merge(_growth(table), on=["distribution", "norm", "width", "bound"])


def _theorem_names(table: pd.DataFrame) -> list[str]:
    pairs = zip(table["norm"], table["bound"], strict=True)
    return [", ".join(THEOREMS[norm].get(bound, [])) for norm, bound in pairs]


def _theorem_holds(rows: pd.DataFrame) -> pd.Series:
    """Per row 1.0 or 0.0, NaN where no theorem speaks or the other bound was not computed."""
    values = rows.pivot(index=SAMPLE, columns="bound", values="value")
    holds = pd.Series(np.nan, index=rows.index)
    for (norm, bound), group in rows.groupby(["norm", "bound"]):
        of_network = values.loc[pd.MultiIndex.from_frame(group[SAMPLE])]
        verdicts = [
            _no_more(of_network[small], of_network[large])
            for small, large in (name.split(" <= ") for name in THEOREMS[norm].get(bound, []))
            if {small, large} <= set(values.columns)
        ]
        if verdicts:
            holds[group.index] = np.minimum.reduce(verdicts)
    return holds


def _no_more(small: pd.Series, large: pd.Series) -> np.ndarray:
    """1.0 or 0.0, NaN where one of the two is missing."""
    verdict = (small.to_numpy() <= large.to_numpy() * (1 + ROUNDING)).astype(float)
    return np.where(small.isna() | large.isna(), np.nan, verdict)


def _growth(table: pd.DataFrame) -> pd.DataFrame:
    """exp of the least-squares slope of ln(ratio_mean) against depth; NaN for a single depth."""

    def factor(line: pd.DataFrame) -> float:
        depth, height = line["depth"].to_numpy(float), np.log(line["ratio_mean"].to_numpy(float))
        centred = depth - depth.mean()
        run = centred @ centred
        return math.exp(centred @ height / run) if run > 0 else math.nan

    lines = table.groupby(["distribution", "norm", "width", "bound"])[["depth", "ratio_mean"]]
    return lines.apply(factor).rename("growth_per_stage").reset_index()


# ---------------------------------------------------------------------------- test 4: the paper's


def paper(test4: pd.DataFrame) -> pd.DataFrame:
    """Test 4 as the paper would print it: a row per architecture, norm and treatment.

    The entries are text, "mean ± standard deviation" over the seeds (the mean alone for one seed,
    "–" where a bound is not defined, "†" behind the values of a method that was stopped for one
    seed or more), from the Jacobians' lower bound over K_5 up to K_*; accuracy in per cent.
    """
    columns = ["architecture", "norm", "treatment", "seed", "bound", "value", "lipschitz_lower"]
    rows = _rows_with(test4, [*columns, "reason", "accuracy"])
    rows = rows.assign(architecture=pd.Categorical(rows["architecture"], _in_order(rows)))
    names = [name for name in reversed(LABELS) if (rows["bound"] == name).any()]
    lines = []
    for key, line in rows.groupby(["architecture", "norm", "treatment"], observed=True):
        networks = line.drop_duplicates("seed")
        of_bounds = {name: line[line["bound"] == name] for name in names}
        lines.append(
            {
                "architecture": key[0],
                "norm": NORM_NAMES[key[1]],
                "treatment": key[2],
                "lower": _plus_minus(networks["lipschitz_lower"]),
                **{
                    LABELS[name]: _plus_minus(of["value"])
                    + STOPPED * bool(of["reason"].notna().any())
                    for name, of in of_bounds.items()
                },
                "accuracy [%]": _plus_minus(100 * networks["accuracy"], last=-2),
            }
        )
    return pd.DataFrame(lines)


def _in_order(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(rows["architecture"]))


def _rows_with(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise LipboundsError(f"the table lacks the columns {missing}")
    if table.empty:
        raise LipboundsError("the table has no rows")
    return table.reset_index(drop=True)


def _plus_minus(values: pd.Series, last: int | None = None) -> str:
    """The text "mean ± standard deviation", both down to the decimal place 10^``last``.

    That is, unless given, the deviation's second digit, or the mean's fourth if there is one value.
    From 10^5 on, both are in units of a power of ten.
    """
    mean, deviation = values.mean(), values.std()
    if math.isnan(mean):
        return NONE
    exponent = math.floor(math.log10(mean)) if mean > 0 else 0
    if last is None:
        last = exponent - 3
        if deviation > 0:
            last = max(math.floor(math.log10(deviation)) - 1, exponent - 5)
    shift = exponent if exponent >= 5 else 0
    places = max(0, shift - last)
    text = f"{mean / 10**shift:.{places}f}"
    if not math.isnan(deviation):
        text = f"{text} ± {deviation / 10**shift:.{places}f}"
        text = f"({text})" if shift else text
    return f"{text}e{shift}" if shift else text


# ---------------------------------------------------------------------------- test 5: comparison


def comparison(test5: pd.DataFrame) -> pd.DataFrame:
    """Test 5 in one table: a row per network and norm, from the lower bound to the upper bounds.

    The entries are text: a number; ``**number**`` for the least of the upper bounds, equal ones to
    the digits printed included; "[lower, upper]" for an exact constant or D* that was not closed;
    "– reason" where a method gave no value, "–" where it has no row; "†" after the value of a
    method that was stopped. Of a network's two treatments
    the one with the smaller bound counts. Raises LipboundsError for an unknown bound.
    """
    columns = ["case", "norm", "bound", "value", "lower", "lipschitz_lower", "reason"]
    rows = _rows_with(test5, [*columns, "exact", "relaxation_optimum"])
    unknown = sorted(set(rows["bound"]) - set(LABELS))
    if unknown:
        raise LipboundsError(f"no column for the bounds {unknown}")
    bounds = [name for name in LABELS if name not in TRUTH and (rows["bound"] == name).any()]
    rows = rows.sort_values("value", kind="stable")  # the missing last
    rows = rows.drop_duplicates(["case", "norm", "bound"]).sort_index()
    lines = []
    for (case, norm), of in rows.groupby(["case", "norm"], sort=False):
        entries = of.set_index("bound")
        least = _cell(entries["value"].reindex(bounds).min())
        printed = {LABELS[name]: _entry(entries, name) for name in bounds}
        lines.append(
            {
                "network": case,
                "norm": NORM_NAMES[norm],
                "lower": _cell(of["lipschitz_lower"].max()),
                LABELS["exact"]: _interval(entries, "exact", of["exact"].max()),
                LABELS["D_star"]: _interval(entries, "D_star", of["relaxation_optimum"].max()),
                **{
                    name: f"**{text}**" if text.rstrip(STOPPED) == least else text
                    for name, text in printed.items()
                },
            }
        )
    return pd.DataFrame(lines)


def _entry(entries: pd.DataFrame, name: str) -> str:
    """The bound's value, marked where the method was stopped, or a dash and the reason for none."""
    if name not in entries.index:
        return NONE
    value, reason = entries.loc[name, ["value", "reason"]]
    if pd.isna(value):
        return f"{NONE} {' '.join(reason.split())}"
    return _cell(value) + STOPPED * pd.notna(reason)


def _interval(entries: pd.DataFrame, name: str, closed: float) -> str:
    """The number, where upper and lower end met, else the two."""
    if pd.notna(closed):
        return _cell(closed)
    upper = _entry(entries, name)
    if upper.startswith(NONE):
        return upper
    lower = entries.loc[name, "lower"]
    return f"[{_cell(max(lower, 0.0)) if pd.notna(lower) else 0}, {upper}]"


def with_notes(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table with "– [n]" for each "– reason", and the reasons, the n-th at place n - 1; what
    "†" means stands last."""
    notes: dict[str, int] = {}

    def numbered(cell):
        if not (isinstance(cell, str) and cell.startswith(f"{NONE} ")):
            return cell
        return f"{NONE} [{notes.setdefault(cell[len(NONE) + 1 :], len(notes) + 1)}]"

    numbers = table.map(numbered)
    stopped = any(STOPPED in str(cell) for cell in table.to_numpy().flat)
    return numbers, [*notes, f"{STOPPED}: {STOPPED_NOTE}"] if stopped else list(notes)


# ---------------------------------------------------------------------------- printing


def write(table: pd.DataFrame, path: Path | str) -> None:
    """Write the table as .csv, .md, .tex or .html, all or nothing.

    The CSV says in each cell why there is no value, and knows no bold; the others have numbered
    notes. Raises LipboundsError for any other suffix.
    """
    suffix = Path(path).suffix
    if suffix == ".csv":
        bare = table.map(lambda cell: _bold(cell, r"\1") if isinstance(cell, str) else cell)
        write_csv(bare.rename(columns=plain), path)
    elif suffix in PRINTERS:
        write_text(PRINTERS[suffix](*with_notes(table)), path)
    else:
        raise LipboundsError(f"cannot write {path}: the suffix must be .csv or of {list(PRINTERS)}")


def to_markdown(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """The table in GitHub's Markdown, numbers to four digits and to the right."""
    header = [plain(column).replace("|", "\\|") for column in table.columns]
    rules = [":---" if align == "l" else "---:" for align in _alignment(table)]
    body = [[cell.replace("|", "\\|") for cell in line] for line in _cells(table)]
    lines = [f"| {' | '.join(line)} |\n" for line in [header, rules, *body]]
    return "".join(lines) + "\n" * bool(notes) + _numbered(notes, "{}. {}\n")


def to_html(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """The table in HTML, numbers to four digits."""
    cells = [[_bold(html.escape(cell), r"<b>\1</b>") for cell in line] for line in _cells(table)]
    page = pd.DataFrame(cells, columns=[html.escape(plain(column)) for column in table.columns])
    text = page.to_html(index=False, escape=False)
    items = "".join(f"<li>{html.escape(note)}</li>\n" for note in notes)
    return text + f"\n<ol>\n{items}</ol>\n" * bool(notes)


def to_latex(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    r"""The table as a LaTeX ``tabular`` with booktabs rules (``\usepackage{booktabs}``)."""
    header = " & ".join(map(_latex_label, table.columns))
    body = "".join(f"{' & '.join(map(_latex, line))} \\\\\n" for line in _cells(table))
    return (
        "% needs \\usepackage{booktabs}\n"
        f"\\begin{{tabular}}{{{_alignment(table)}}}\n"
        f"\\toprule\n{header} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
        + _numbered(list(map(_latex, notes)), "\\par [{}] {}\n")
    )


def _numbered(notes: Sequence[str], line: str) -> str:
    return "".join(line.format(number, note) for number, note in enumerate(notes, 1))


def _bold(text: str, replacement: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", replacement, text)


def _alignment(table: pd.DataFrame) -> str:
    return "".join("r" if pd.api.types.is_numeric_dtype(dtype) else "l" for dtype in table.dtypes)


def _cells(table: pd.DataFrame) -> list[list[str]]:
    return [[_cell(value) for value in line] for line in table.itertuples(index=False)]


def _cell(value) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, float):
        return "∞" if value == math.inf else f"{value:.4g}"
    return str(value)


def _latex_label(label: str) -> str:
    """The label with its mathematics as it is."""
    parts = label.split("$")
    return "$".join(part if place % 2 else _latex(part) for place, part in enumerate(parts))


def _latex(text: str) -> str:
    """± ∞ – and powers of ten as LaTeX has them, the rest escaped."""
    text = re.sub(r"([&%$#_{}])", r"\\\1", text)
    for sign, command in LATEX.items():
        text = text.replace(sign, command)
    power = r"(?<=[\d)])e\+?(-?)0*(\d+)(?=$|\*\*|[],]|\$\\dagger)"
    text = re.sub(power, r"$\\times10^{\1\2}$", text)
    return _bold(text, r"\\textbf{\1}")


LATEX = {
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "–": "--",
    "†": r"$\dagger$",
    "<=": r"$\le$",
    "≤": r"$\le$",
    "×": r"$\times$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}
PRINTERS = {".md": to_markdown, ".tex": to_latex, ".html": to_html}
TABLES = {"test3_relations": relations, "test4_paper": paper, "test5_comparison": comparison}
