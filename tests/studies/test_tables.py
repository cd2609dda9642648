"""The tables derived from the tidy one, on frames small enough to work out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from lipbounds.errors import LipboundsError
from lipbounds.studies import tables, tidy


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


def test_relations_of_a_bound_that_only_some_samples_have():
    rows = random_rows({"K_5": [0.5, 1.0], "K_4": [1, 2, 100], "K_1": [9, 9, 99]}, optimum=0.25)
    table = tables.relations(rows).set_index("bound")
    k5 = table.loc["K_5"]
    assert (k5["samples"], table.loc["K_4", "samples"]) == (2, 3)
    assert k5["ratio_mean"] == k5["ratio_median"] == pytest.approx(0.5)
    assert k5["log_std_K_4"] == pytest.approx(math.log(2) / math.sqrt(2))  # of the same two
    assert k5["theorem"] == "K_5 <= K_4" and k5["theorem_holds"] == 1
    assert k5["K_4_smaller"] == 0 and k5["over_optimum_min"] == 2
    assert table.loc["K_1", "theorem_holds"] == pytest.approx(2 / 3)  # of all three


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
    several = {"K_4": [10, 12], "K_star": [1e6, 3e6], "K_3": [0.5, 0.52], "K_5": [4, 6]}
    several = mnist_rows(several)
    several.loc[several.index[-1], "reason"] = "stopped after 1 s"
    single = mnist_rows({"K_4": [1234.56], "K_2": [1.0]}, norm=2.0, architecture="dense")
    table = tables.paper(tidy.concat([several, single]))
    first, second = table.to_dict("records")
    # Standard deviations: of 10 and 12 sqrt(2), of 1e6 and 3e6 1.414e6, of 0.5 and 0.52 0.01414.
    assert first == {
        "architecture": "pool",
        "norm": "∞",
        "treatment": "explicit",
        "lower": "2.000 ± 0.000",
        "$K_5$": "5.0 ± 1.4†",
        "$K_4$": "11.0 ± 1.4",
        "$K_3$": "0.510 ± 0.014",
        "$K_2$": "–",
        "$K_*$": "(2.0 ± 1.4)e6",
        "accuracy [%]": "98.50 ± 0.71",
    }
    assert (second["architecture"], second["norm"]) == ("dense", "2")
    assert (second["$K_4$"], second["$K_2$"], second["accuracy [%]"]) == ("1235", "1.000", "98.00")


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


# ---------------------------------------------------------------------------- the comparison


def compared_rows(outcomes, case="net", norm=math.inf, treatment="explicit", **truth):
    """outcomes: {bound: its value, or (lower, value), or the reason why there is none}"""
    rows = []
    for bound, of in outcomes.items():
        row = {"bound": bound, "value": math.nan, "lower": math.nan}
        if isinstance(of, str):
            row["reason"] = of
        else:
            row["lower"], row["value"] = of if isinstance(of, tuple) else (math.nan, of)
        rows.append(row)
    where = {"case": case, "norm": norm, "treatment": treatment, "lipschitz_lower": 1.5}
    return tidy.tidy(pd.DataFrame(rows), test="test5", **{**where, **truth})


def test_comparison_by_hand():
    first = compared_rows(
        {"exact": (2, 2), "D_star": (2, 3), "K_4": 4, "K_1": 4.00001, "geolip": "too\n large"},
        exact=2.0,
    )
    second = compared_rows({"D_star": "too large", "K_1": 1e6, "K_4": 2e7}, case="a", norm=2.0)
    table = tables.comparison(tidy.concat([first, second]))
    assert table.to_dict("records") == [
        {"network": "net", "norm": "∞", "lower": "1.5", "exact": "2", "$D^*$": "[2, 3]"}
        | {"$K_1$": "**4**", "$K_4$": "**4**", "GeoLIP": "– too large"},
        {"network": "a", "norm": "2", "lower": "1.5", "exact": "–", "$D^*$": "– too large"}
        | {"$K_1$": "**1e+06**", "$K_4$": "2e+07", "GeoLIP": "–"},
    ]
    assert list(table.columns)[3:] == ["exact", "$D^*$", "$K_1$", "$K_4$", "GeoLIP"]


def test_a_method_that_was_stopped_is_marked():
    rows = compared_rows({"D_star": (2, 3), "K_4": 4, "geolip": 3.5})
    rows["reason"] = ["stopped", None, "stopped"]
    table = tables.comparison(rows)
    (line,) = table.to_dict("records")
    assert (line["$D^*$"], line["$K_4$"], line["GeoLIP"]) == ("[2, 3†]", "4", "**3.5†**")
    printed, notes = tables.with_notes(table)
    assert notes == [f"†: {tables.STOPPED_NOTE}"] and printed.equals(table)
    assert r"\textbf{3.5$\dagger$}" in tables.to_latex(printed)


def test_comparison_takes_the_smaller_of_two_treatments_or_the_one_there_is():
    explicit = compared_rows({"K_4": 5, "K_1": 3, "eclipse": 7.0})
    implicit = compared_rows({"K_4": 4, "K_1": 6, "eclipse": "pools"}, treatment="implicit")
    (line,) = tables.comparison(tidy.concat([explicit, implicit])).to_dict("records")
    assert (line["$K_4$"], line["$K_1$"], line["ECLipsE"]) == ("4", "**3**", "7")


def test_comparison_refuses_a_bound_without_a_column():
    with pytest.raises(LipboundsError, match="K_9"):
        tables.comparison(compared_rows({"K_9": 1}))


def test_notes_number_the_reasons_once():
    table = pd.DataFrame({"a": ["– slow", "–"], "b": ["– too large", "– slow"], "n": [1, 2]})
    printed, notes = tables.with_notes(table)
    assert notes == ["slow", "too large"]
    assert printed.to_dict("list") == {"a": ["– [1]", "–"], "b": ["– [2]", "– [1]"], "n": [1, 2]}


# ---------------------------------------------------------------------------- printing

PRINTED = pd.DataFrame(
    {"$K_*$": ["1.0 ± 0.5", "(1.5 ± 0.1)e6"], "a_b": [np.inf, 0.123456], "n|m": [3, 12345]}
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


def test_a_power_of_ten_that_was_stopped_in_latex():
    table = pd.DataFrame({"K_5": ["(2.0 ± 1.4)e6†"]})
    assert r"(2.0 $\pm$ 1.4)$\times10^{6}$$\dagger$ \\" in tables.to_latex(table)


def test_missing_entries_print_as_nothing():
    assert tables.to_markdown(pd.DataFrame({"x": [math.nan]})).endswith("|  |\n")


NOTED = pd.DataFrame({"$D^*$": ["[1e+05, 3e+06]", "– [1]"], "x": ["**2e+07**", "a & <b>"]})


def test_bold_and_notes_in_markdown():
    text = tables.to_markdown(NOTED, ["needs n < 2", "slow"])
    assert text.endswith("| – [1] | a & <b> |\n\n1. needs n < 2\n2. slow\n")


def test_bold_and_notes_in_latex():
    text = tables.to_latex(NOTED, ["2^n & more"])
    assert "$D^*$ & x" in text
    assert r"[1$\times10^{5}$, 3$\times10^{6}$] & \textbf{2$\times10^{7}$}" in text
    assert text.endswith("\\end{tabular}\n\\par [1] 2\\textasciicircum{}n \\& more\n")


def test_bold_and_notes_in_html():
    text = tables.to_html(NOTED.assign(x=["**2e+07**", "<b>" + 100 * "y"]), ["n < 2"])
    assert "<td><b>2e+07</b></td>" in text and f"<td>&lt;b&gt;{100 * 'y'}</td>" in text
    assert text.endswith("<ol>\n<li>n &lt; 2</li>\n</ol>\n")


def test_write_goes_by_the_suffix(tmp_path):
    for suffix in ("csv", "md", "tex", "html"):
        tables.write(NOTED.replace("– [1]", "– slow"), tmp_path / f"t.{suffix}")
    assert (tmp_path / "t.md").read_text() == tables.to_markdown(NOTED, ["slow"])
    assert (tmp_path / "t.tex").read_text() == tables.to_latex(NOTED, ["slow"])
    assert (tmp_path / "t.html").read_text() == tables.to_html(NOTED, ["slow"])
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == [
        '"[1e+05, 3e+06]",2e+07',
        "– slow,a & <b>",
    ]
    with pytest.raises(LipboundsError, match="suffix"):
        tables.write(NOTED, tmp_path / "t.xlsx")
