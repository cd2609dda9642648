"""The tables derived from the tidy one (see tidy.py), and how a table is printed."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd

from lipbounds.errors import LipboundsError

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
}
THEOREMS_L2 = {
    "K_star": ["K_1 <= K_star"],
    "K_1": ["K_1 <= K_star"],
    "K_2": ["K_2 <= K_star"],
    "K_3": ["K_4 <= K_3"],
    "K_4": ["K_4 <= K_3"],
}
THEOREMS = {1.0: THEOREMS_L1_LINF, 2.0: THEOREMS_L2, math.inf: THEOREMS_L1_LINF}

NORM_NAMES = {1.0: "1", 2.0: "2", math.inf: "∞"}
PAPER_COLUMNS = {"K_4": "K_4", "K_3": "K_3", "K_2": "K_2", "K_1": "K_1", "K_star": "K_*"}


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

    ``samples``; the ratio bound/K_4: ``ratio_mean`` (geometric) and its quantiles; ``log_std`` and
    ``log_std_K_4``: standard deviation over samples of ln(bound) and ln(K_4); ``K_4_smaller``: the
    share of samples with K_4 <= bound; ``theorem``: the orderings with this bound that are proved,
    and ``theorem_holds``: the share of samples where they hold (it must be 1);
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
            ~(of_network[small] > of_network[large] * (1 + ROUNDING))
            for small, large in (name.split(" <= ") for name in THEOREMS[norm].get(bound, []))
            if {small, large} <= set(values.columns)
        ]
        if verdicts:
            holds[group.index] = np.logical_and.reduce(verdicts).astype(float)
    return holds


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
    "–" where a bound is not defined), from the Jacobians' lower bound up to K_*; accuracy in
    per cent.
    """
    columns = ["architecture", "norm", "treatment", "seed", "bound", "value", "lipschitz_lower"]
    rows = _rows_with(test4, [*columns, "accuracy"])
    rows = rows.assign(architecture=pd.Categorical(rows["architecture"], _in_order(rows)))
    lines = []
    for key, line in rows.groupby(["architecture", "norm", "treatment"], observed=True):
        networks = line.drop_duplicates("seed")
        values = {name: line.loc[line["bound"] == name, "value"] for name in PAPER_COLUMNS}
        lines.append(
            {
                "architecture": key[0],
                "norm": NORM_NAMES[key[1]],
                "treatment": key[2],
                "lower": _plus_minus(networks["lipschitz_lower"]),
                **{PAPER_COLUMNS[name]: _plus_minus(of) for name, of in values.items()},
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
        return "–"
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


# ---------------------------------------------------------------------------- printing


def to_markdown(table: pd.DataFrame) -> str:
    """The table in GitHub's Markdown, numbers to four digits and to the right."""
    header = [str(column).replace("|", "\\|") for column in table.columns]
    rules = [":---" if align == "l" else "---:" for align in _alignment(table)]
    body = [[cell.replace("|", "\\|") for cell in line] for line in _cells(table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, rules, *body])


def to_latex(table: pd.DataFrame) -> str:
    r"""The table as a LaTeX ``tabular`` with booktabs rules (``\usepackage{booktabs}``)."""
    header = " & ".join(_latex(str(column)) for column in table.columns)
    body = "".join(f"{' & '.join(map(_latex, line))} \\\\\n" for line in _cells(table))
    return (
        "% needs \\usepackage{booktabs}\n"
        f"\\begin{{tabular}}{{{_alignment(table)}}}\n"
        f"\\toprule\n{header} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
    )


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


def _latex(text: str) -> str:
    """Bounds as mathematics, ± ∞ – and powers of ten as LaTeX has them, the rest escaped."""
    if match := re.fullmatch(r"K_(\*|\d)", text):
        return f"$K_{match[1]}$"
    text = re.sub(r"([&%$#_{}])", r"\\\1", text)
    text = text.replace("±", r"$\pm$").replace("∞", r"$\infty$").replace("–", "--")
    text = text.replace("<=", r"$\le$")
    return re.sub(r"(?<=[\d)])e\+?(-?)0*(\d+)$", r"$\\times10^{\1\2}$", text)
