"""What changed is made again, with what depends on it, and nothing else."""

import os
from textwrap import dedent

import pytest

pytestmark = pytest.mark.pipeline

CORE = "src/lipbounds/methods/averaged.py"
TESTS = ["test1", "test2", "test3", "test4", "test5"]
COMPARED = 4  # networks of config/quick.yaml
ALL = {"bounds_analytic": 3, "bounds_random": 2, "bounds_mnist": 1, "compare": COMPARED}
TABLES = {"table_test3_relations": 1, "table_test4_paper": 1, "table_test5_comparison": 1}
FIGURES = {f"figures_{test}": 1 for test in TESTS}


def after(*tests: str, **jobs: int) -> dict[str, int]:
    """The jobs given, and those that make the tests' tables and figures of their results."""
    jobs |= {f"figures_{test}": 1 for test in tests} | {"collect": len(tests), "collect_all": 1}
    jobs |= {"table_test3_relations": 1} if "test3" in tests else {}
    jobs |= {"table_test4_paper": 1} if "test4" in tests else {}
    jobs |= {"table_test5_comparison": 1} if "test5" in tests else {}
    return jobs


@pytest.mark.parametrize(
    "change, jobs",
    [
        (
            """
            analytic: {test1: {levels: [1, 2]}}
            random: {samples: 21}
            mnist: {architectures: [small, avgpool]}
            comparison: {widths: [2, 3]}
            """,
            after("test1", "test3", "test4", "test5", bounds_analytic=2, bounds_random=2)
            | {"train_mnist": 1, "bounds_mnist": 1, "compare": 1},
        ),
        (
            """
            analytic: {test2: {families: [cube]}}
            random: {limits: {K_5: {samples: 5}}}
            mnist: {epochs: {small: 2}}
            """,
            after("test2", "test3", "test4", bounds_analytic=1, bounds_random=2)
            | {"train_mnist": 1, "bounds_mnist": 1},
        ),
        (
            "random: {limits: {K_5: {neurons: {2: 10}}}}\nmnist: {seeds: [0, 1]}",
            after("test3", "test4", bounds_random=2, train_mnist=1, bounds_mnist=1),
        ),
        (
            "random: {depths: [1, 2, 3]}\nmnist: {jacobians: 11}",
            after("test3", "test4", bounds_random=1, bounds_mnist=1),
        ),
        ("mnist: {options: {K_5: {seconds: 3}}}", after("test4", bounds_mnist=1)),
        ("mnist: {timeout: 11}", {"fetch_mnist": 1}),
        ("norms: [1, 2]", after(*TESTS, **ALL)),
    ],
)
def test_changed_values_of_the_configuration(quick, change, jobs):
    """Of several tests at a time: each outdates its own."""
    assert quick.planned(change=dedent(change)) == jobs


@pytest.mark.parametrize(
    "file, jobs",
    [
        (CORE, after(*TESTS, **ALL)),
        ("src/lipbounds/truth/milp.py", after("test5", compare=COMPARED)),
        (
            "src/lipbounds/truth/pieces.py",
            after("test1", "test2", "test5", bounds_analytic=3, compare=COMPARED),
        ),
        (
            "src/lipbounds/studies/cases/random.py",
            after("test3", "test5", bounds_random=2, compare=COMPARED),
        ),
        (
            "src/lipbounds/studies/cases/mnist.py",
            after("test4", "test5", train_mnist=2, bounds_mnist=1, compare=COMPARED),
        ),
        ("src/lipbounds/studies/plotting/style.py", FIGURES),
        ("src/lipbounds/studies/tables.py", FIGURES | TABLES),
        ("src/lipbounds/methods/lipopt.py", after("test5", compare=COMPARED)),
        ("src/lipbounds/methods/seqlip.py", after(*TESTS, **ALL)),
        ("workflow/scripts/table.py", TABLES),
    ],
)
def test_changed_code(quick, file, jobs):
    with quick.edited(file):
        assert quick.planned() == jobs


def test_touched_code_with_the_same_content(quick):
    with quick.edited(CORE, text=""):
        os.utime(quick.directory / CORE)
        assert quick.planned() == {}


def test_figures_are_drawn_again_and_nothing_is_computed(quick):
    """Even with results older than the code: the tables are taken as they are."""
    with quick.edited(CORE):
        assert quick.planned("figures") == {"figures": 1}


def test_figures_drawn_again_are_new_files(quick, results):
    before = results("figures/test2_bounds.png").stat()
    run = quick.snakemake("--configfile", "config/quick.yaml", "--", "figures")
    assert run.returncode == 0, run.stdout
    after = results("figures/test2_bounds.png").stat()
    assert after.st_mtime > before.st_mtime and after.st_size == before.st_size
    assert quick.planned() == {}


def test_mnist_stays_when_it_is_fetched_again(quick):
    """A changed time-out runs the rule again, which finds good files and leaves them alone."""
    file = quick.directory / "data/mnist/MNIST/raw/train-images-idx3-ubyte"
    before = file.stat().st_ino  # Snakemake sets the time
    (quick.directory / "change.yaml").write_text("mnist: {timeout: 11}")
    files = ["config/quick.yaml", "change.yaml"]
    run = quick.snakemake("--configfile", *files, "--", str(file.relative_to(quick.directory)))
    assert run.returncode == 0 and "MNIST: present" in run.stdout, run.stdout
    assert file.stat().st_ino == before
    assert quick.planned(change="mnist: {timeout: 11}") == {}


def test_a_single_file_by_its_name(quick):
    file = "results/quick/figures/test2_bounds.pdf"
    with quick.edited(CORE):
        planned = quick.planned(file)
    assert planned == {"bounds_analytic": 1, "collect": 1, "figures_test2": 1}


def test_one_experiment(quick):
    with quick.edited(CORE):
        planned = quick.planned("test3")
    assert planned.pop("test3") == 1
    assert planned | {"collect_all": 1} == after("test3", bounds_random=2)
