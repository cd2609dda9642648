"""The tables derived from the tidy one, on frames small enough to work out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from lipbounds import tables, tidy
from lipbounds.errors import LipboundsError


def random_rows(values, depth=1, norm=1.0, optimum=math.nan):
    """values: {bound: one value per sample}"""
    rows = [
        {"sample": i, "bound": bound, "value": value}
        for bound, of_samples in values.items()
        for i, value in enumerate(of_samples)
    ]
    constants = {"norm": norm, "depth": depth, "width": 4, "relaxation_optimum": optimum}
    where = {"test": "test3", "case": "random", "treatment": "explicit"}
    return tidy.tidy(pd.DataFrame(rows), distribution="gaussian", **constants, **where)


# ---------------------------------------------------------------------------- relations


def test_relations_by_hand():
    rows = random_rows({"K_4": [1, 2], "K_1": [2, 8], "K_star": [3, 7]}, optimum=0.5)
    table = tables.relations(rows).set_index("bound")
    k1 = table.loc["K_1"]
    assert k1["samples"] == 2
    assert k1["ratio_mean"] == pytest.approx(math.sqrt(2 * 4))
    assert k1["ratio_median"] == pytest.approx(3)
    assert k1["ratio_q25"] == pytest.approx(2.5)
    assert k1["log_std"] == pytest.approx(math.log(4) / math.sqrt(2))
    assert k1["log_std_K_4"] == pytest.approx(math.log(2) / math.sqrt(2))
    assert k1["over_optimum_mean"] == pytest.approx((4 + 16) / 2)
    assert k1["over_optimum_min"] == pytest.approx(4)
    assert k1["K_4_smaller"] == 1
    # K_1 <= K_* fails in the second sample: 8 > 7.
    assert k1["theorem"] == "K_4 <= K_1, K_1 <= K_star" and k1["theorem_holds"] == 0.5
    assert table.loc["K_star", "theorem_holds"] == 1
    assert math.isnan(k1["growth_per_stage"])


def test_relations_growth_is_the_factor_per_stage():
    depths = [random_rows({"K_4": [1], "K_3": [2 * 3**depth]}, depth=depth) for depth in (1, 2, 4)]
    growth = tables.relations(tidy.concat(depths)).set_index("bound")["growth_per_stage"]
    assert growth["K_3"].to_numpy() == pytest.approx([3, 3, 3])
    assert growth["K_4"].to_numpy() == pytest.approx([1, 1, 1])


def test_relations_in_l2_knows_that_k4_may_exceed_k_star():
    rows = random_rows({"K_4": [2, 2], "K_3": [3, 3], "K_star": [1, 4]}, norm=2.0)
    table = tables.relations(rows).set_index("bound")
    assert table.loc["K_star", "K_4_smaller"] == 0.5
    assert math.isnan(table.loc["K_star", "theorem_holds"])  # its theorem needs K_1
    assert table.loc["K_3", "theorem_holds"] == 1


def test_relations_takes_rounding_for_equality():
    rows = random_rows({"K_4": [1 + 1e-13], "K_1": [1.0], "K_star": [1.0]})
    assert (tables.relations(rows)["theorem_holds"] == 1).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (random_rows({"K_1": [1, 2], "K_4": [1]}), "1 rows have no K_4"),
        (pd.concat([random_rows({"K_4": [1]})] * 2), "two rows for"),
        (random_rows({"K_4": [1]}).drop(columns="depth"), r"lacks the columns \['depth'\]"),
        (random_rows({"K_4": [1]}).iloc[:0], "no rows"),
    ],
)
def test_relations_refuses(rows, message):
    with pytest.raises(LipboundsError, match=message):
        tables.relations(rows)


# ---------------------------------------------------------------------------- the paper's table


def mnist_rows(values, norm=math.inf, treatment="explicit", architecture="pool", lower=2.0):
    """values: {bound: one value per seed}"""
    rows = [
        {"seed": seed, "bound": bound, "value": value, "accuracy": 0.98 + 0.01 * seed}
        for bound, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]
    where = {"norm": norm, "treatment": treatment, "architecture": architecture}
    frame = pd.DataFrame(rows)
    return tidy.tidy(frame, test="test4", case=architecture, lipschitz_lower=lower, **where)


def test_paper_by_hand():
    several = mnist_rows({"K_4": [10, 12], "K_star": [1e6, 3e6], "K_3": [0.5, 0.52]})
    single = mnist_rows({"K_4": [1234.56], "K_2": [1.0]}, norm=2.0, architecture="dense")
    table = tables.paper(tidy.concat([several, single]))
    first, second = table.to_dict("records")
    # Standard deviations: of 10 and 12 sqrt(2), of 1e6 and 3e6 1.414e6, of 0.5 and 0.52 0.01414.
    assert first == {
        "architecture": "pool",
        "norm": "∞",
        "treatment": "explicit",
        "lower": "2.000 ± 0.000",
        "K_4": "11.0 ± 1.4",
        "K_3": "0.510 ± 0.014",
        "K_2": "–",
        "K_1": "–",
        "K_*": "(2.0 ± 1.4)e6",
        "accuracy [%]": "98.50 ± 0.71",
    }
    assert (second["architecture"], second["norm"]) == ("dense", "2")
    assert (second["K_4"], second["K_2"], second["accuracy [%]"]) == ("1235", "1.000", "98.00")


def test_paper_keeps_the_order_of_the_architectures_and_sorts_norms():
    rows = [
        mnist_rows({"K_4": [1]}, norm=norm, treatment=treatment, architecture=name)
        for name in ("zeta", "alpha")
        for norm in (math.inf, 1.0)
        for treatment in ("implicit", "explicit")
    ]
    table = tables.paper(tidy.concat(rows))
    assert list(table["architecture"]) == ["zeta"] * 4 + ["alpha"] * 4
    assert list(table["norm"][:4]) == ["1", "1", "∞", "∞"]
    assert list(table["treatment"][:2]) == ["explicit", "implicit"]


# ---------------------------------------------------------------------------- printing

PRINTED = pd.DataFrame(
    {"K_*": ["1.0 ± 0.5", "(1.5 ± 0.1)e6"], "a_b": [np.inf, 0.123456], "n|m": [3, 12345]}
)


def test_to_markdown():
    assert tables.to_markdown(PRINTED) == (
        "| K_* | a_b | n\\|m |\n"
        "| :--- | ---: | ---: |\n"
        "| 1.0 ± 0.5 | ∞ | 3 |\n"
        "| (1.5 ± 0.1)e6 | 0.1235 | 12345 |\n"
    )


def test_to_latex():
    assert tables.to_latex(PRINTED) == (
        "% needs \\usepackage{booktabs}\n"
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "$K_*$ & a\\_b & n|m \\\\\n"
        "\\midrule\n"
        "1.0 $\\pm$ 0.5 & $\\infty$ & 3 \\\\\n"
        "(1.5 $\\pm$ 0.1)$\\times10^{6}$ & 0.1235 & 12345 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_missing_entries_print_as_nothing():
    assert tables.to_markdown(pd.DataFrame({"x": [math.nan]})).endswith("|  |\n")
