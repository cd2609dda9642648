"""The whole workflow on config/quick.yaml: what it makes, and that it is right."""

import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lipbounds.studies.plotting import FIGURES
from lipbounds.studies.tidy import TIDY_COLUMNS, read

pytestmark = pytest.mark.pipeline
ROOT = Path(__file__).parents[2]
ROUNDING = 1 + 1e-9
BOUNDS = ("K_star", "K_1", "K_3", "K_4", "K_5")  # in all norms


@pytest.fixture(scope="module")
def table(results) -> pd.DataFrame:
    return read(results("tables/all.csv"))


def test_all_tests_are_in_the_one_table(table, results):
    assert list(table.columns) == list(TIDY_COLUMNS)
    parts = [read(results(f"tables/test{n}.csv")) for n in (1, 2, 3, 4, 5)]
    assert [set(part["test"]) for part in parts] == [{f"test{n}"} for n in (1, 2, 3, 4, 5)]
    assert len(table) == sum(map(len, parts))


def test_every_bound_norm_and_treatment_is_there(table):
    pairs = {
        (test, treatment): set(zip(rows["bound"], rows["norm"], strict=True))
        for (test, treatment), rows in table.groupby(["test", "treatment"])
        if test != "test5"
    }
    expected = {(b, p) for b in BOUNDS for p in (1.0, 2.0, math.inf)}
    expected.add(("K_2", 2.0))
    k5 = {(b, p) for b, p in expected if b == "K_5"}  # of networks as they are
    assert pairs.pop(("test4", "explicit")) == expected - k5
    assert ("test4", "implicit") in pairs and len(pairs) > 3
    assert all(found == expected for found in pairs.values())


def test_every_method_is_compared_or_says_why_not(table):
    rows = table[table["test"] == "test5"]
    config = yaml.safe_load((ROOT / "config/quick.yaml").read_text())["comparison"]
    assert set(rows["bound"]) == {*config["methods"], "D_star", "exact"}
    assert rows.loc[rows["value"].isna(), "reason"].notna().all()
    assert set(rows["case"]) >= {"gaussian_3-4-4-2", "mnist_mlp"}
    small = rows[rows["case"] == "gaussian_3-4-4-2"]
    assert small["value"].notna().all() and (small["lipschitz_lower"] > 0).all()
    optimum = small.dropna(subset="relaxation_optimum")
    assert len(optimum) == len(small)
    bounds = optimum[optimum["bound"] != "exact"]
    assert (bounds["relaxation_optimum"] <= bounds["value"] * ROUNDING).all()


def test_known_values_of_the_square(table):
    """Lip = K_4 = 2 - 2^-m in every norm, K_3 = m + 1 (spec, known values)."""
    square = table[table["family"] == "square"]
    k4, k3 = (square[square["bound"] == bound] for bound in ("K_4", "K_3"))
    assert set(k4["level"]) == {1, 2, 3}
    assert k4["value"].to_numpy() == pytest.approx((2 - 0.5 ** k4["level"]).to_numpy(), rel=1e-10)
    assert k4["exact"].to_numpy() == pytest.approx((2 - 0.5 ** k4["level"]).to_numpy(), rel=1e-10)
    assert k3["value"].to_numpy() == pytest.approx((k3["level"] + 1).to_numpy(), rel=1e-10)


@pytest.mark.parametrize(
    "lower, test",
    [
        ("exact", "test1"),
        ("exact", "test2"),
        ("relaxation_optimum", "test3"),
        ("lipschitz_lower", "test4"),
        ("lipschitz_lower", "test5"),
    ],
)
def test_no_bound_is_below_what_it_bounds(table, lower, test):
    rows = table[table["test"] == test].dropna(subset=[lower, "value"])
    assert len(rows) and (rows[lower] > 0).all()
    assert (rows[lower] <= rows["value"] * ROUNDING).all()


def test_theorems_hold_on_random_networks(results):
    relations = pd.read_csv(results("tables/test3_relations.csv"))
    assert (relations["theorem_holds"].dropna() == 1).all()
    assert relations["theorem_holds"].notna().any()


def test_k5_of_random_networks_is_the_smallest_and_not_far_from_the_optimum(table):
    """On the first so many samples; in all cells, which are small here. K_2 may be smaller."""
    config = yaml.safe_load((ROOT / "config/quick.yaml").read_text())["random"]
    rows = table[table["test"] == "test3"]
    k5 = rows[rows["bound"] == "K_5"]
    counts = k5.groupby(["depth", "width", "norm"])["sample"].agg(["size", "max"])
    assert len(counts) == len(config["depths"]) * len(config["widths"]) * 3
    samples = config["limits"]["K_5"]["samples"]
    assert set(counts["size"]) == {samples} and set(counts["max"]) == {samples - 1}
    key = ["case", "norm", "sample"]
    least = rows[rows["bound"] != "K_2"].groupby(key)["value"].min().rename("least")
    k5 = k5.join(least, on=key)
    assert (k5["value"] <= k5["least"] * (1 + 1e-6)).all()  # its optimiser's tolerance
    known = k5.dropna(subset="relaxation_optimum")
    assert len(known) and (known["value"] <= 1.5 * known["relaxation_optimum"]).all()


def test_networks_learned_something(table):
    assert (table.loc[table["test"] == "test4", "accuracy"] > 0.8).all()


def test_every_figure_is_drawn(results):
    drawn = {path.name for path in results("figures").iterdir()}
    assert drawn == {f"{figure}.{suffix}" for figure in FIGURES for suffix in ("png", "pdf")}
    for name in drawn:
        start = results(f"figures/{name}").read_bytes()[:4]
        assert start == (b"\x89PNG" if name.endswith("png") else b"%PDF")


def test_tables_as_the_paper_would_print_them(results):
    for suffix, sign in (("csv", ","), ("md", "| --"), ("tex", "\\toprule"), ("html", "<table")):
        for table in ("test4_paper", "test5_comparison"):
            assert sign in results(f"tables/{table}.{suffix}").read_text().replace(":", "")


def test_profile_is_picked_up_by_itself(quick):
    assert "profile profiles/default" in quick.snakemake("--dry-run").stdout


def test_nothing_is_left_to_do(quick):
    assert quick.planned() == {}


def test_report_is_one_file_that_needs_no_network(quick, results):
    run = quick.snakemake("--configfile", "config/quick.yaml", "--report", "report.html")
    assert run.returncode == 0, run.stdout
    page = (quick.directory / "report.html").read_text()
    assert page.count('"data_uri": "data:image/png') == len(FIGURES)
    for loaded in ('<script src="', "<link ", 'src="http', "@import"):
        assert loaded not in page
    assert "a piecewise linear interpolant at the points" in page  # a caption
    assert "bounds_analytic" in page  # a node of the workflow's graph
