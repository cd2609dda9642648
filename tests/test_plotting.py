"""The figures show the table's numbers, say what they are, and are the same bytes every time."""

import functools
import math

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lipbounds import plotting, tidy
from lipbounds.errors import LipboundsError

NORMS = [1.0, 2.0, math.inf]


def analytic(test, families, levels=(1, 2, 3)):
    """K_4 = exact = 2 - 2^-m, K_3 = m + 1, K_* = 4^m; K_2 with a lower end in l2."""
    rows = [
        {"family": family, "level": m, "norm": norm, "exact": 2 - 2.0**-m} | bound
        for family in families
        for m in levels
        for norm in NORMS
        for bound in [
            {"bound": "K_4", "value": 2 - 2.0**-m},
            {"bound": "K_3", "value": m + 1.0},
            {"bound": "K_star", "value": 4.0**m},
            {"bound": "K_2", "value": 3.0**m, "lower": 2.0**m},
        ]
        if norm == 2 or bound["bound"] != "K_2"
    ]
    return tidy.tidy(pd.DataFrame(rows), test=test, case="x", treatment="explicit")


def random(distributions=("gaussian", "uniform"), depths=(1, 2, 3), widths=(4, 8), samples=7):
    generator = np.random.default_rng(0)
    height = {"K_4": 1, "K_1": 2, "K_3": 3, "K_star": 10}
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
        for bound, value in (("K_4", 100), ("K_3", 200), ("K_star", 1000))
    ]
    return tidy.tidy(pd.DataFrame(rows), test="test4", case="cnn", lipschitz_lower=5.0)


FULL = {
    "test1": analytic("test1", ["square", "sawtooth", "square_shifted_tent", "square_split_carry"]),
    "test2": analytic("test2", ["cube", "fourth", "product", "chebyshev"]),
    "test3": random(),
    "test4": mnist(),
}
TINY = {
    "test1": analytic("test1", ["square"], levels=(1,)).query("norm == 1 and bound == 'K_4'"),
    "test2": analytic("test2", ["product"], levels=(1,)),
    "test3": random(("uniform",), depths=(1,), widths=(4,), samples=2),
    "test4": mnist(("pool",), seeds=(0,)),
}


def fresh(name, table=FULL):
    return plotting.FIGURES[name](table[name.split("_")[0]])


figure_of = functools.cache(fresh)


def line(ax, bound):
    """The one line drawn in a bound's colour and marker."""
    mark = plotting.MARKS[bound]
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
    table = FULL["test4"].assign(bound="K_5")
    with pytest.raises(LipboundsError, match="K_5"):
        plotting.test4_bounds(table)


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
    assert "lies on the exact constant" in figure.get_suptitle()


def test_the_lower_end_of_k2_is_drawn():
    ax = figure_of("test1_bounds").axes[1]
    (segments,) = [c.get_segments() for c in ax.collections]
    assert [list(segment[:, 1]) for segment in segments] == [[2, 3], [4, 9], [8, 27]]


def test_the_title_does_not_claim_exactness_that_is_not_there():
    table = FULL["test1"].assign(exact=FULL["test1"]["exact"] / 1.25)
    title = plotting.test1_bounds(table).get_suptitle()
    assert "at most 1.25 times" in title and "lies on" not in title


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


def test_nothing_is_cut_off_when_ratios_span_decades():
    table = FULL["test3"].copy()
    small = (table["bound"] == "K_star") & (table["norm"] == 2)
    table.loc[small, "value"] *= 1e-7
    ax = plotting.test3_depth(table).axes[1]
    assert ax.get_ylim()[0] < line(ax, "K_star").get_ydata().min()


def test_spread_is_the_standard_deviation_of_the_logarithm():
    ax = figure_of("test3_spread").axes[0]
    expected = np.log(cell(1.0, width=4)["K_4"]).groupby("depth").std()
    np.testing.assert_allclose(line(ax, "K_4").get_ydata().astype(float), expected)


def test_spread_of_single_samples_is_refused():
    with pytest.raises(LipboundsError, match="no cell has two samples"):
        plotting.test3_spread(random(samples=1))


def test_relaxation_shows_only_enumerated_cells():
    figure = figure_of("test3_relaxation")
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1×4", "1×8", "2×4"]
    expected = cell(1.0, width=4).loc[2, "K_4"].median() / 0.5
    assert line(ax, "K_4").get_ydata()[2] == pytest.approx(expected)
    with pytest.raises(LipboundsError, match="no row has a relaxation_optimum"):
        plotting.test3_relaxation(FULL["test3"].assign(relaxation_optimum=math.nan))


# ---------------------------------------------------------------------------- test 4


def test_mnist_bars_reach_from_lower_bound_to_k_star():
    figure = fresh("test4_bounds", TINY)
    ax = figure.axes[2]
    explicit, implicit = sorted(ax.patches, key=lambda bar: bar.get_y())
    assert explicit.get_x() == pytest.approx(5) and implicit.get_x() == pytest.approx(5)
    assert explicit.get_x() + explicit.get_width() == pytest.approx(1000)
    assert implicit.get_x() + implicit.get_width() == pytest.approx(500)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["pool\n98.00 %"]
    assert "1 of 1 networks" in figure.get_suptitle()


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
        plotting.test4_treatments(FULL["test4"].query("treatment == 'explicit'"))


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
    assert plotting._number(value) == text
