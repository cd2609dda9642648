"""The figures show the table's numbers, say what they are, and are the same bytes every time."""

import functools
import math

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lipbounds.errors import LipboundsError
from lipbounds.methods.registry import BOUNDS
from lipbounds.studies import plotting, tidy
from lipbounds.studies.labels import LABELS
from lipbounds.studies.plotting.style import KIND_MARKS, number

NORMS = [1.0, 2.0, math.inf]


def analytic(test, families, levels=(1, 2, 3)):
    """K_4 = K_5 = exact = 2 - 2^-m, K_3 = m + 1, K_* = 4^m; K_2 with a lower end in l2."""
    rows = [
        {"family": family, "level": m, "norm": norm, "exact": 2 - 2.0**-m} | bound
        for family in families
        for m in levels
        for norm in NORMS
        for bound in [
            {"bound": "K_4", "value": 2 - 2.0**-m},
            {"bound": "K_5", "value": 2 - 2.0**-m},
            {"bound": "K_3", "value": m + 1.0},
            {"bound": "K_star", "value": 4.0**m},
            {"bound": "K_2", "value": 3.0**m, "lower": 2.0**m},
        ]
        if norm == 2 or bound["bound"] != "K_2"
    ]
    return tidy.tidy(pd.DataFrame(rows), test=test, case="x", treatment="explicit")


def random(distributions=("gaussian", "uniform"), depths=(1, 2, 3), widths=(4, 8), samples=7):
    """K_5 of the first three samples up to width 4."""
    generator = np.random.default_rng(0)
    height = {"K_4": 1, "K_5": 0.9, "K_1": 2, "K_3": 3, "K_star": 10}
    rows = [
        {"distribution": distribution, "depth": depth, "width": width, "sample": sample}
        | {"norm": norm, "bound": bound, "value": h**depth * generator.lognormal(0, 0.1)}
        | {"relaxation_optimum": 0.5 if depth * width <= 8 else math.nan}
        for distribution in distributions
        for depth in depths
        for width in widths
        for sample in range(samples)
        for norm in NORMS
        for bound, h in height.items()
        if bound != "K_5" or (sample < 3 and width <= 4)
    ]
    return tidy.tidy(pd.DataFrame(rows), test="test3", case="random", treatment="explicit")


def mnist(architectures=("pool", "dense"), seeds=(0, 1, 2)):
    rows = [
        {"architecture": architecture, "seed": seed, "norm": norm, "treatment": treatment}
        | {"bound": bound, "value": value * factor * (1 + 0.1 * seed), "accuracy": 0.98}
        for architecture in architectures
        for seed in seeds
        for norm in NORMS
        for treatment, factor in (("explicit", 1), ("implicit", 0.5 if norm > 2 else 2))
        for bound, value in (("K_4", 100), ("K_5", 80), ("K_3", 200), ("K_star", 1000))
    ]
    return tidy.tidy(pd.DataFrame(rows), test="test4", case="cnn", lipschitz_lower=5.0)


# Ratio to the lower bound and seconds on the networks a, b, c; None: no value.
COMPARED = {
    "K_star": [(8, 1), (80, 1), (800, 1)],
    "K_4": [(2, 10), (4, 10), (8, 10)],
    "K_1": [(3, 20), (5, 20), (9, 20)],  # beaten by K_4
    "K_5": [(2, 500), (3.2, 500), (8, 500)],  # beaten by GeoLIP
    "geolip": [(1.5, 100), (3, 400), None],
    "lipopt": [(1, 0.1), None, None],
    "exact": [(1, 1000), (1, 1000), (1.25, 1000)],
}


def compared(bounds=tuple(COMPARED), networks="abc"):
    rows = [
        {"case": case, "norm": norm, "bound": bound, "lipschitz_lower": 10.0, "family": "networks"}
        | outcome(COMPARED[bound]["abc".index(case)])
        for case in networks
        for norm in NORMS
        for bound in bounds
    ]
    return tidy.tidy(pd.DataFrame(rows), test="test5", treatment="explicit")


def outcome(of):
    if of is None:
        return {"value": math.nan, "seconds": 0.5, "reason": "too large"}
    return {"value": 10.0 * of[0], "seconds": of[1]}


def growing(sizes=(2, 4, 8)):
    """K_4: ratio = size; geolip: ratio 1 up to size 4."""
    rows = [
        {"case": f"{ladder}{size}", "family": ladder, "norm": norm, "lipschitz_lower": 10.0}
        | {"width": 8, "depth": 2, ladder: size, "bound": bound}
        | outcome((size, 0.5 * size) if bound == "K_4" else (1, 7.0) if size <= 4 else None)
        for ladder in ("width", "depth")
        for size in sizes
        for norm in NORMS
        for bound in ("K_4", "geolip")
    ]
    return tidy.tidy(pd.DataFrame(rows), test="test5", treatment="explicit")


FULL = {
    "test1": analytic("test1", ["square", "sawtooth", "square_shifted_tent", "square_split_carry"]),
    "test2": analytic("test2", ["cube", "fourth", "product", "chebyshev"]),
    "test3": random(),
    "test4": mnist(),
    "test5": tidy.concat([compared(), growing()]),
}
TINY = {
    "test1": analytic("test1", ["square"], levels=(1,)).query("norm == 1 and bound == 'K_4'"),
    "test2": analytic("test2", ["product"], levels=(1,)),
    "test3": random(("uniform",), depths=(1,), widths=(4,), samples=2),
    "test4": mnist(("pool",), seeds=(0,)),
    "test5": tidy.concat([compared(("K_4",), "a"), growing((2,))]).query("norm == 1"),
}


def fresh(name, table=FULL):
    return plotting.FIGURES[name](table[name.split("_")[0]])


figure_of = functools.cache(fresh)


def line(ax, bound):
    """The one line drawn in a bound's colour and marker."""
    return drawn_as(ax, plotting.MARKS[bound])


def drawn_as(ax, mark):
    (found,) = [
        drawn
        for drawn in ax.get_lines()
        if drawn.get_color() == mark["color"] and drawn.get_marker() == mark["marker"]
    ]
    return found


# ---------------------------------------------------------------------------- all figures


def test_every_figure_is_named_after_its_function_and_test():
    for name, function in plotting.FIGURES.items():
        assert function.__name__ == name and name.split("_")[0] in FULL


@pytest.mark.parametrize("name", plotting.FIGURES)
@pytest.mark.parametrize("table", [FULL, TINY], ids=["full", "tiny"])
@pytest.mark.filterwarnings("error")
def test_every_figure_draws_with_title_labels_and_legend(name, table):
    figure = fresh(name, table)
    FigureCanvasAgg(figure).draw()
    assert "nan" not in figure.get_suptitle() and "K_4" in figure.get_suptitle()
    assert figure.legends[0].get_texts()
    assert all(ax.get_xlabel() for ax in figure.axes[-1:])
    assert "log" in {figure.axes[0].get_xscale(), figure.axes[0].get_yscale()}


@pytest.mark.parametrize("name", plotting.FIGURES)
def test_every_figure_takes_its_rows_from_the_table_of_all_tests(name):
    alone, among = fresh(name, TINY), plotting.FIGURES[name](tidy.concat(TINY.values()))
    assert among.get_suptitle() == alone.get_suptitle()
    assert len(among.axes) == len(alone.axes)


@pytest.mark.parametrize("name", plotting.FIGURES)
@pytest.mark.parametrize("missing", ["value", "norm"])
def test_a_missing_column_is_named(name, missing):
    table = FULL[name.split("_")[0]].drop(columns=missing)
    with pytest.raises(LipboundsError, match=rf"{name}.*\['{missing}'\]"):
        plotting.FIGURES[name](table)


@pytest.mark.parametrize("name", plotting.FIGURES)
def test_an_empty_table_is_refused(name):
    with pytest.raises(LipboundsError, match=f"{name}.*no rows"):
        plotting.FIGURES[name](FULL[name.split("_")[0]].iloc[:0])


def test_an_unknown_bound_is_refused_not_left_out():
    table = FULL["test4"].assign(bound="K_9")
    with pytest.raises(LipboundsError, match="K_9"):
        plotting.FIGURES["test4_bounds"](table)


def test_every_bound_has_a_mark_of_its_own():
    assert set(BOUNDS) <= set(plotting.MARKS)
    assert set(plotting.MARKS) == set(KIND_MARKS) == set(LABELS)
    for marks in (plotting.MARKS, KIND_MARKS):
        looks = {(mark["color"], mark["marker"]) for mark in marks.values()}
        assert len(looks) == len({mark["label"] for mark in marks.values()}) == len(marks)


# ---------------------------------------------------------------------------- tests 1 and 2


def test_analytic_lines_are_the_tables_values():
    figure = figure_of("test1_bounds")
    assert len(figure.axes) == 2 * 3
    top = figure.axes[:3]
    assert [ax.get_title() for ax in top] == list(plotting.NORMS.values())
    for ax in top:
        assert list(line(ax, "K_star").get_ydata()) == [4, 16, 64]
        assert list(line(ax, "K_4").get_ydata()) == [1.5, 1.75, 1.875]
        (exact,) = [drawn for drawn in ax.get_lines() if drawn.get_label() == "exact constant"]
        assert exact.get_color() == "black" and list(exact.get_ydata()) == [1.5, 1.75, 1.875]
        assert ax.get_yscale() == "log"
    assert "$K_4$ and $K_5$ lie on the exact constant" in figure.get_suptitle()


def test_the_lower_end_of_k2_is_drawn():
    ax = figure_of("test1_bounds").axes[1]
    (segments,) = [c.get_segments() for c in ax.collections]
    assert [list(segment[:, 1]) for segment in segments] == [[2, 3], [4, 9], [8, 27]]


def test_the_title_does_not_claim_exactness_that_is_not_there():
    table = FULL["test1"].assign(exact=FULL["test1"]["exact"] / 1.25)
    title = plotting.FIGURES["test1_bounds"](table).get_suptitle()
    assert "$K_4$ is at most 1.25, $K_5$ is at most 1.25 times the exact" in title
    assert "lie on" not in title


def test_polynomials_have_a_row_each_and_extra_families_follow():
    figure = figure_of("test2_bounds")
    labels = [ax.get_ylabel().split("\n")[0] for ax in figure.axes[::3]]
    assert labels == ["$x^3$", "$x^4$", "$xy$", "chebyshev"]


def test_writings_share_one_scale_and_one_exact_constant():
    figure = figure_of("test1_writings")
    assert len(figure.axes) == 3
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert list(line(figure.axes[0], "K_3").get_ydata()) == [2, 3, 4]


# ---------------------------------------------------------------------------- test 3


def cell(norm, distribution="gaussian", width=8):
    rows = FULL["test3"].query(f"distribution == '{distribution}' and width == {width}")
    rows = rows[rows["norm"] == norm]
    return rows.pivot(index=["depth", "sample"], columns="bound", values="value")


@pytest.mark.parametrize(
    ("name", "along", "cells"),
    [
        ("test3_depth", "hidden stages", ["width 4", "width 8"]),
        ("test3_width", "width", ["depth 2", "depth 3"]),
    ],
)
def test_distributions_have_a_panel_per_distribution_two_cells_and_norm(name, along, cells):
    figure = figure_of(name)
    labels = [ax.get_ylabel().split("\n")[0] for ax in figure.axes[::3]]
    assert labels == [f"{name}, {cell}" for name in ("gaussian", "uniform") for cell in cells]
    assert len(figure.axes) == 4 * 3
    assert [ax.get_xlabel() for ax in figure.axes[-3:]] == [along] * 3


def test_boxes_show_median_quartiles_and_whiskers_of_the_ratio():
    ax = figure_of("test3_depth").axes[2]
    assert ax.get_title() == plotting.NORMS[math.inf]
    values = cell(math.inf, width=4)
    ratio = (values["K_star"] / values["K_4"]).groupby("depth")
    np.testing.assert_allclose(line(ax, "K_star").get_ydata(), ratio.median())
    boxes = ax.containers[0]
    np.testing.assert_allclose([box.get_y() for box in boxes], ratio.quantile(0.25))
    tops = [box.get_y() + box.get_height() for box in boxes]
    np.testing.assert_allclose(tops, ratio.quantile(0.75))
    whiskers = np.array([segment[:, 1] for segment in ax.collections[0].get_segments()])
    np.testing.assert_allclose(whiskers[:, 0], ratio.quantile(0.05))
    np.testing.assert_allclose(whiskers[:, 1], ratio.quantile(0.95))


@pytest.mark.parametrize("name", ["test3_depth", "test3_width", "test3_spread", "test3_relaxation"])
def test_the_legend_tells_of_how_many_networks_k5_is(name):
    figure = figure_of(name)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    label = plotting.MARKS["K_5"]["label"]
    assert [text for text in texts if "networks" in text] == [f"{label}, 3 of 7 networks"]


def test_the_title_names_the_largest_networks_k5_is_known_for():
    k5 = cell(math.inf, "gaussian", 4).loc[3].dropna()
    also = cell(math.inf, "uniform", 4).loc[3].dropna()
    median = pd.concat([k5["K_5"] / k5["K_4"], also["K_5"] / also["K_4"]]).median()
    title = figure_of("test3_depth").get_suptitle()
    assert title.endswith(f"{number(median)} for $K_5$ at 3 hidden stages of width 4")


def test_nothing_is_cut_off_when_ratios_span_decades():
    table = FULL["test3"].copy()
    small = (table["bound"] == "K_star") & (table["norm"] == 2)
    table.loc[small, "value"] *= 1e-7
    ax = plotting.FIGURES["test3_depth"](table).axes[1]
    assert ax.get_ylim()[0] < line(ax, "K_star").get_ydata().min()


def test_spread_is_the_standard_deviation_of_the_logarithm():
    ax = figure_of("test3_spread").axes[0]
    expected = np.log(cell(1.0, width=4)["K_4"]).groupby("depth").std()
    np.testing.assert_allclose(line(ax, "K_4").get_ydata().astype(float), expected)


def test_spread_of_single_samples_is_refused():
    with pytest.raises(LipboundsError, match="no cell has two samples"):
        plotting.FIGURES["test3_spread"](random(samples=1))


def test_relaxation_shows_only_enumerated_cells():
    figure = figure_of("test3_relaxation")
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1×4", "1×8", "2×4"]
    expected = cell(1.0, width=4).loc[2, "K_4"].median() / 0.5
    assert line(ax, "K_4").get_ydata()[2] == pytest.approx(expected)
    both = FULL["test3"].query("bound == 'K_4' and sample < 3 and width == 4 and depth <= 2")
    title = figure.get_suptitle()
    assert f"$K_5$ on networks where it is {number(both['value'].max() / 0.5)} for $K_4$" in title
    with pytest.raises(LipboundsError, match="no row has a relaxation_optimum"):
        plotting.FIGURES["test3_relaxation"](FULL["test3"].assign(relaxation_optimum=math.nan))


# ---------------------------------------------------------------------------- test 4


def test_mnist_bars_reach_from_lower_bound_to_k_star():
    figure = fresh("test4_bounds", TINY)
    ax = figure.axes[2]
    explicit, implicit = sorted(ax.patches, key=lambda bar: bar.get_y())
    assert explicit.get_x() == pytest.approx(5) and implicit.get_x() == pytest.approx(5)
    assert explicit.get_x() + explicit.get_width() == pytest.approx(1000)
    assert implicit.get_x() + implicit.get_width() == pytest.approx(500)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["pool\n98.00 %"]
    title = figure.get_suptitle()
    assert "$K_5$ 1 of 1 times in $\\ell_1$" in title
    assert "$K_4$ is 1.25, 1.25, 1.25 times as large" in title


def test_mnist_bounds_show_every_seed_of_every_treatment():
    ax = figure_of("test4_bounds").axes[0]
    color = plotting.MARKS["K_4"]["color"]
    points = [list(d.get_xdata()) for d in ax.get_lines() if d.get_color() == color]
    assert len(points) == 2 * 2  # architectures, treatments
    np.testing.assert_allclose(sorted(points), [[100, 110, 120]] * 2 + [[200, 220, 240]] * 2)


def test_treatments_show_explicit_over_implicit():
    figure = figure_of("test4_treatments")
    for ax, ratio in zip(figure.axes, [0.5, 0.5, 2], strict=True):
        np.testing.assert_allclose(line(ax, "K_4").get_xdata(), [ratio] * 6)
        assert "explicit / implicit" in ax.get_xlabel()
    assert "0.5 in" in figure.get_suptitle() and "2 in" in figure.get_suptitle()


def test_treatments_need_both():
    with pytest.raises(LipboundsError, match="implicit"):
        plotting.FIGURES["test4_treatments"](FULL["test4"].query("treatment == 'explicit'"))


# ---------------------------------------------------------------------------- test 5


def markers(ax, bound):
    """What is drawn of a bound: (x, y, size, hollow) for its points and its median."""
    mark = KIND_MARKS[bound]
    return [
        (*drawn.get_xdata(), *drawn.get_ydata(), drawn.get_markerfacecolor() == "white")
        for drawn in ax.get_lines()
        if drawn.get_color() == mark["color"]
        and drawn.get_marker() == mark["marker"]
        and drawn.get_markersize() == 10
    ]


def front(ax):
    (found,) = [drawn for drawn in ax.get_lines() if drawn.get_linestyle() == "--"]
    assert found.get_drawstyle() == "steps-post"
    return list(zip(found.get_xdata(), found.get_ydata(), strict=True))


def test_pareto_medians_go_over_all_networks():
    """geolip fails on the hardest of three: its median is its value on the harder of the others."""
    for ax in figure_of("test5_pareto").axes:
        assert markers(ax, "K_4") == [pytest.approx((10, 4, False))]
        assert markers(ax, "geolip") == [pytest.approx((400, 3, False))]
        assert markers(ax, "exact") == [pytest.approx((1000, 1, False))]
        # One network of three: no median over all, and hollow where it is over those done.
        assert markers(ax, "lipopt") == [pytest.approx((0.1, 1, True))]
        (text,) = ax.texts
        assert text.get_text() == "a value on, of 3:\nGeoLIP 2\nLiPopt 1"


def test_pareto_front_is_of_methods_with_a_median_over_all_networks():
    ax = figure_of("test5_pareto").axes[2]
    *steps, end = front(ax)
    assert steps == [pytest.approx(step) for step in [(1, 80), (10, 4), (400, 3), (1000, 1)]]
    assert end == pytest.approx((ax.get_xlim()[1], 1)) and end[0] > 1000
    assert ax.get_title().endswith("front: $K_*$, $K_4$, GeoLIP, exact")
    title = figure_of("test5_pareto").get_suptitle()
    assert "exact in $\\ell_1$" in title and "$K_4$ is 4, 4, 4 times as large" in title
    assert "100, 100, 100 times as fast" in title
    assert title.endswith("$K_5$ is 3.2, 3.2, 3.2 times as large and 2, 2, 2 times as fast")


def test_a_long_front_is_named_in_several_lines():
    from lipbounds.studies.plotting.comparison import LETTERS, _lines

    words = ["front:", "path norm,", "$K_3$,", "$K_4$,", "norm equivalence,", "$K_5$,", "$D^*$"]
    lines = _lines(words)
    assert " ".join(lines).split() == " ".join(words).split() and len(lines) == 2
    assert all(len(line.translate({ord(c): None for c in "$_^"})) <= LETTERS for line in lines)


def test_half_of_the_networks_are_not_enough_for_a_median():
    ax = plotting.FIGURES["test5_pareto"](compared(networks="ac")).axes[0]
    assert markers(ax, "geolip") == [pytest.approx((100, 1.5, True))]
    assert markers(ax, "K_4") == [pytest.approx((10, 4, False))]  # geometric, of 2 and 8


def test_a_network_without_a_row_counts_as_one_without_a_value():
    table = compared()
    gone = table[(table["bound"] != "geolip") | table["value"].notna()]
    ax = plotting.FIGURES["test5_pareto"](gone).axes[0]
    assert markers(ax, "geolip") == [pytest.approx((400, 3, False))]


def test_pareto_takes_the_treatment_with_the_smaller_bound_and_its_time():
    table = compared(("K_4",), "a")
    other = table.assign(treatment="implicit", value=15.0, seconds=70.0)
    ax = plotting.FIGURES["test5_pareto"](tidy.concat([table, other])).axes[0]
    assert markers(ax, "K_4") == [pytest.approx((70, 1.5, False))]


def test_pareto_points_are_single_networks_and_none_is_out_of_sight():
    table = compared()
    far = (table["case"] == "c") & (table["bound"] == "K_star")
    table.loc[far, "value"] = 1e30
    ax = plotting.FIGURES["test5_pareto"](table).axes[0]
    points = {
        bound: list(drawn.get_ydata())
        for bound, mark in KIND_MARKS.items()
        for drawn in ax.get_lines()
        if (drawn.get_color(), drawn.get_marker()) == (mark["color"], mark["marker"])
        and drawn.get_markersize() == 4
    }
    assert points["K_4"] == pytest.approx([2, 4, 8]) and points["geolip"] == pytest.approx([1.5, 3])
    assert points["K_star"] == pytest.approx([8, 80, 30 * 80])
    assert ax.get_ylim()[1] > points["K_star"][-1]


def test_growth_lines_end_where_a_method_gives_no_value():
    figure = figure_of("test5_growth")
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles == [
        f"{norm}, growing {ladder}"
        for norm in ("$\\ell_2$", "$\\ell_\\infty$")
        for ladder in ("width, depth 2", "depth, width 8")
    ]
    for ratio, seconds in zip(figure.axes[:4], figure.axes[4:], strict=True):
        k4, geolip = (drawn_as(ratio, KIND_MARKS[bound]) for bound in ("K_4", "geolip"))
        assert list(k4.get_xdata()) == [2, 4, 8]
        np.testing.assert_allclose(k4.get_ydata(), [2, 4, 8])
        np.testing.assert_allclose(geolip.get_ydata(), [1, 1, math.nan])
        np.testing.assert_allclose(drawn_as(seconds, KIND_MARKS["K_4"]).get_ydata(), [1, 2, 4])
    title = figure.get_suptitle()
    assert "width 8: $K_4$ is 8 times the lower bound after 4 s" in title and "GeoLIP" not in title


def test_growth_of_a_single_ladder():
    figure = plotting.FIGURES["test5_growth"](growing().query("family == 'depth'"))
    assert len(figure.axes) == 2 * 2 and figure.axes[-1].get_xlabel() == "hidden stages"


@pytest.mark.filterwarnings("error")
def test_norms_and_ladders_without_any_value_are_drawn_empty():
    nothing = {"value": math.nan, "reason": "slow"}
    table, grown = compared(), growing()
    table.loc[table["norm"] == 2, list(nothing)] = list(nothing.values())
    grown.loc[(grown["norm"] == 2) | (grown["width"] == 8), list(nothing)] = list(nothing.values())
    for figure in (
        plotting.FIGURES["test5_pareto"](table),
        plotting.FIGURES["test5_growth"](grown),
    ):
        FigureCanvasAgg(figure).draw()
        assert "nan" not in figure.get_suptitle()
    with pytest.raises(LipboundsError, match="no method has a value"):
        plotting.FIGURES["test5_pareto"](table.query("norm == 2"))


def test_tightness_needs_a_lower_bound_and_its_families():
    with pytest.raises(LipboundsError, match="no positive lipschitz_lower"):
        plotting.FIGURES["test5_pareto"](compared().assign(lipschitz_lower=math.nan))
    with pytest.raises(LipboundsError, match="test5_pareto.*no rows of its families"):
        plotting.FIGURES["test5_pareto"](growing())


# ---------------------------------------------------------------------------- save


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_saved_bytes_are_the_same_whatever_the_time_and_the_users_settings(
    tmp_path, suffix, monkeypatch
):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    plotting.save(fresh("test1_writings"), tmp_path / f"a.{suffix}")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 10}):
        plotting.save(fresh("test1_writings"), tmp_path / f"b.{suffix}")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert b"CreationDate" not in first and b"atplotlib" not in first[:2000]
    assert len(list(tmp_path.iterdir())) == 2


def test_png_has_200_dots_per_inch(tmp_path):
    figure = figure_of("test1_writings")
    plotting.save(figure, tmp_path / "a.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "a.png").shape
    assert np.allclose([width, height], 200 * figure.get_size_inches(), atol=1)


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(LipboundsError, match="suffix"):
        plotting.save(figure_of("test1_writings"), tmp_path / "a.bmp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (3.14159, "3.14"), (0.0456, "0.0456"), (5553.35, "5553"), (1e5, "$10^{5}$")]
    + [(7.114e5, r"$7.11\times10^{5}$"), (2e-7, r"$2\times10^{-7}$")],
)
def test_numbers_in_titles_and_ticks(value, text):
    assert number(value) == text
