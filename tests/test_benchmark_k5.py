"""benchmarks/k5.py on tiny networks: what it keeps, what it measures anew, what it draws."""

import importlib.util
import math
from pathlib import Path

import pandas as pd
import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "k5.py"


@pytest.fixture
def program(tmp_path, monkeypatch):
    pytest.importorskip("cvxpy")
    spec = importlib.util.spec_from_file_location("benchmark_k5", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("SOLVERS", "GROWTH", "FIGURE"):
        monkeypatch.setattr(module, name, tmp_path / getattr(module, name).name)
    monkeypatch.setattr(module, "SMALL", [(2, 3, 2)])
    rungs = {"width": {2: (2, 2, 2, 2), 3: (2, 3, 3, 2)}, "depth": {1: (2, 3, 2)}}
    monkeypatch.setattr(module, "RUNGS", rungs)
    return module


def test_the_solver_is_run_once_and_k5_each_time(program):
    program.solvers(1)
    first = pd.read_csv(program.SOLVERS)
    assert list(first["norm"]) == [1, 2, math.inf]
    assert (first["K_5"] / first["solver"]).between(0.99, 1.0001).all()
    first.assign(K_5=0.0, solver=7.0).to_csv(program.SOLVERS, index=False)
    program.solvers(2)
    again = pd.read_csv(program.SOLVERS)
    assert list(again["seed"]) == [0, 0, 0, 1, 1, 1]
    assert (again["solver"][:3] == 7).all()
    assert again["K_5"][:3].to_numpy() == pytest.approx(first["K_5"].to_numpy(), rel=1e-6)
    assert (program.summary(again)["seeds"] == 2).all()


def test_growth_goes_on_and_is_drawn(program):
    program.growth(20)
    table = pd.read_csv(program.GROWTH)
    assert set(table["method"]) == set(program.METHODS[2]) | {"geolip"}
    keys = ["ladder", "norm", "size"]
    values = table.pivot_table("value", keys, "method")
    assert (values["lower_bound"] <= values["K_5"]).all()
    table[table["method"] != "K_4"].to_csv(program.GROWTH, index=False)
    program.growth(20)
    again = pd.read_csv(program.GROWTH)
    assert sorted(again["method"]) == sorted(table["method"])
    program.figure()
    assert program.FIGURE.stat().st_size > 10_000
