"""The command `lipbounds`, by its output and its exit codes."""

import csv
import io
import itertools
import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import lipbounds as lb
from lipbounds.commandline import budget
from lipbounds.commandline.app import app
from lipbounds.commandline.budget import influenced
from lipbounds.commandline.pictures import influence_map, saved
from lipbounds.commandline.tables import above, below

RNG = np.random.default_rng(0)
ARRAYS = {"W0": RNG.normal(size=(5, 4)), "b0": RNG.normal(size=5), "W1": RNG.normal(size=(3, 5))}


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return x + self.outer(torch.relu(self.inner(x)))


@pytest.fixture
def folder(tmp_path):
    """One file of each kind."""
    np.savez(tmp_path / "weights.npz", **ARRAYS)
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    torch.save(module, tmp_path / "module.pt")
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    torch.export.save(torch.export.export(module, (torch.zeros(1, 4),)), tmp_path / "program.pt2")
    example, options = (torch.zeros(1, 4),), {"opset_version": 13, "dynamo": False}
    torch.onnx.export(Residual(), example, tmp_path / "residual.onnx", **options)
    softmax = nn.Sequential(module, nn.Softmax(1))
    torch.onnx.export(softmax, example, tmp_path / "softmax.onnx", **options)
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "text.pt2").write_text("no program")
    (tmp_path / "notes.txt").write_text("no network")
    np.savez(tmp_path / "other.npz", A=np.ones((2, 2)))
    np.savez(tmp_path / "gap.npz", W0=np.ones((2, 2)), W2=np.ones((2, 2)))
    return tmp_path


def called(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


def test_json_holds_what_the_library_gives(folder):
    result = called("bounds", folder / "weights.npz", "--json", "--time", 20, "--method", "paper")
    found = json.loads(result.stdout)
    network = lb.from_weights([ARRAYS["W0"], ARRAYS["W1"]], [ARRAYS["b0"], None])
    assert {row["method"] for row in found["bounds"]} == {"K_star", "K_1", "K_2", "K_3", "K_4"}
    for row in found["bounds"]:
        upper = lb.bound(network, row["method"], float(row["norm"]), row["treatment"]).upper
        assert row["upper"] == pytest.approx(upper, rel=1e-9)
        assert 0 < found["lower"][row["norm"]] <= row["upper"]
        assert row["ratio"] == pytest.approx(row["upper"] / found["lower"][row["norm"]])


def test_csv_has_a_row_for_each_bound(folder):
    result = called("bounds", folder / "residual.onnx", "--csv", "--norm", "inf", "--method", "K_4")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["norm"], row["method"], row["status"]) == ("inf", "K_4", "converged")


def test_the_table_has_all_norms_and_the_lower_bound(folder):
    options = ("--method", "K_4", "--method", "K_star", "--time", 5)
    text = called("bounds", folder / "residual.onnx", *options).stdout
    for words in ("l1: the constant is at least", "l2:", "linf:", "K_4", "K_star", "converged"):
        assert words in text


def test_every_method_has_a_row_with_a_value_or_a_reason(folder):
    result = called("bounds", folder / "weights.npz", "--json", "--time", 6, "--norm", "2")
    rows = json.loads(result.stdout)["bounds"]
    defined = {name for name in budget.ALL if 2.0 in lb.BOUNDS[name].norms}
    assert {row["method"] for row in rows} == defined
    assert all(row["upper"] or row["reason"] for row in rows)


def test_inspect_says_what_there_is(folder):
    text = called("inspect", folder / "weights.npz").stdout
    for words in ("inputs 4, outputs 3, stages 1", "W0: dense", "4 -> 5", "relu", "K_5", "K_star"):
        assert words in text
    text = called("inspect", folder / "residual.onnx").stdout
    assert "4 of them carried on" in " ".join(text.split())
    assert re.search(r"differs from the file's outputs by \d.\de-\d\d of the largest", text)


def test_softmax_is_left_out_on_request(folder):
    result = called("bounds", folder / "softmax.onnx", "--method", "K_4", code=3)
    assert "(Softmax)" in result.stderr and "logits" in result.stderr
    called("bounds", folder / "softmax.onnx", "--method", "K_4", "--logits")


def test_a_pickled_module_is_loaded_on_trust_alone(folder):
    arguments = ("bounds", folder / "module.pt", "--method", "K_4", "--shape", 4)
    assert "may run any code" in called(*arguments, code=2).stderr
    called(*arguments, "--trust")
    arguments = ("bounds", folder / "program.pt2", "--method", "K_4")
    assert "can run any code" in called(*arguments, code=2).stderr
    called(*arguments, "--trust")


MISTAKES = {
    "no file": (("bounds", "nothing.onnx"), "does not exist"),
    "no model": (("inspect", "text.onnx"), "no ONNX file"),
    "no arrays": (("inspect", "text.npz"), "no whole .npz file"),
    "no weights": (("inspect", "text.pt"), "text.pt"),
    "no program": (("inspect", "text.pt2", "--trust"), "no whole file of torch.export.save"),
    "other kind": (("inspect", "notes.txt"), ".txt is not known"),
    "other arrays": (("inspect", "other.npz"), "must hold matrices W0, W1"),
    "missing arrays": (("inspect", "gap.npz"), "must hold matrices W0, W1"),
    "weights alone": (("inspect", "weights.pt"), "lipbounds.from_torch"),
    "norm": (("bounds", "weights.npz", "--norm", "3"), "none of 1, 2, inf"),
    "method": (("bounds", "weights.npz", "--method", "K_9"), "unknown bound"),
    "time": (("bounds", "weights.npz", "--time", "-1"), "--time"),
    "shape": (("inspect", "residual.onnx", "--shape", "a"), "whole numbers"),
    "wrong shape": (("inspect", "residual.onnx", "--shape", "5"), "does not fit"),
    "pair": (("bounds", "weights.npz", "--method", "K_2", "--norm", "1"), "not defined in these"),
    "by what": (("sensitivity", "weights.npz", "--method", "K_1"), "must be K_4 or K_5"),
    "picture": (("sensitivity", "weights.npz", "--out", "map.txt"), "must end in one of .png"),
    "folder": (("sensitivity", "weights.npz", "--out", "none/map.png"), "there is no folder"),
    "page": (("bounds", "weights.npz", "--out", "report.pdf"), "must end in one of .html"),
    "output": (("sensitivity", "weights.npz", "--output", "3"), "numbers 0 to 2"),
    "radius": (("sensitivity", "weights.npz", "--radius", "-1"), "--radius"),
    "infinite": (("sensitivity", "weights.npz", "--radius", "inf"), "radii must be finite"),
    "activation": (("inspect", "weights.npz", "--activation", "cube"), "must be one of"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_with_a_sentence_and_a_code(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments, words = MISTAKES[name]
    result = called(*arguments, code=2)
    assert words in result.stderr.replace("\n", " ") and "Traceback" not in result.output
    assert result.stdout == ""


def test_what_is_shown_is_still_a_bound():
    assert above(1.23456001) == "1.23457" and below(1.23456999) == "1.23456"
    assert above(2.0) == below(2.0) == "2"
    assert above(1.5e20) == "1.5e+20" and below(0.0) == "0"


def test_no_time_is_an_error_of_its_own(folder):
    result = called("bounds", folder / "weights.npz", "--time", 0, code=4)
    assert "nothing fitted in 0 s" in result.stderr


def test_no_time_for_sensitivity_is_one_too(folder):
    result = called("sensitivity", folder / "weights.npz", "--time", 0, code=4)
    assert "give it more by --time" in result.stderr


def test_large_dense_networks_have_their_methods(monkeypatch):
    monkeypatch.setattr(budget, "LARGEST_UNROLLED", 1)
    network = lb.from_weights([ARRAYS["W0"], ARRAYS["W1"]])
    assert {task.treatment for task in budget.tasks(network, ["K_4"], [1.0])} == {"explicit"}
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU())
    network = lb.from_torch(module, (1, 4, 4))
    assert {task.treatment for task in budget.tasks(network, ["K_4"], [1.0])} == {"implicit"}
    assert {task.treatment for task in budget.tasks(network, ["geolip"], [1.0])} == {"implicit"}


def test_what_takes_too_long_is_left_out_with_its_estimate():
    network = lb.from_weights([ARRAYS["W0"], ARRAYS["W1"]])
    long = budget.Task("K_1", 2.0, "explicit", 100.0)
    short = budget.Task("K_4", 2.0, "explicit", 1e-6)
    first, second = budget.run(network, [short, long], 1.0)
    assert first.found is not None and second.found is None
    assert second.reason == "would take about 1e+02 s"


def test_tasks_are_in_the_order_of_what_they_take():
    network = lb.from_weights([ARRAYS["W0"], ARRAYS["W1"]])
    found = budget.tasks(network, budget.ALL, (1.0, 2.0, math.inf))
    estimates = [task.estimate for task in found]
    assert estimates == sorted(estimates) and math.isinf(estimates[-1])


def test_what_has_less_to_give_for_less():
    dense = lb.from_weights([ARRAYS["W0"], ARRAYS["W1"]])
    layers = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3)
    convolutions = lb.from_torch(nn.Sequential(*layers), (1, 8, 8))
    for network, flexible in ((dense, {("K_4", 1), ("K_4", 2)}), (convolutions, None)):
        found = budget.tasks(network, ("K_1", "K_3", "K_4"), (1.0, 2.0))
        found = {(task.name, task.norm) for task in found if task.flexible}
        assert found == (flexible or {("K_1", 2), ("K_4", 1), ("K_4", 2)})


def test_the_tightest_gets_half_of_what_is_left_for_methods_that_take_any_time():
    names = ("K_4", "K_5", "K_5", "eclipse", "geolip", "lipopt")
    waiting = [budget.Task(name, 2.0, "explicit", math.inf) for name in names]
    waiting[0] = replace(waiting[0], estimate=1e-3)
    left, shares = 1.0, []
    while waiting:
        shares.append(left * budget._share(waiting[0], waiting, left))
        left -= 0.0 if waiting[0].name == "K_4" else shares[-1]
        waiting = waiting[1:]
    assert shares[0] == 1.0  # of what has an estimate: it may take what it needs
    assert shares[1:3] == pytest.approx([0.25, 0.375]) and sum(shares[1:]) == pytest.approx(1)
    assert shares[3] == pytest.approx(shares[4]) == pytest.approx(shares[5])


def test_one_that_needs_too_much_but_has_less_to_give_takes_its_share(monkeypatch):
    """K_4, of which there are cheaper ones; K_1 is left out."""
    network = lb.from_weights([ARRAYS["W0"], ARRAYS["W1"]])
    planned = [budget.Task(name, 2.0, "explicit", 1e9) for name in ("K_1", "K_4")]
    planned[1] = replace(planned[1], flexible=True)
    planned.append(budget.Task("K_5", 2.0, "explicit", math.inf))
    assert budget._share(planned[1], planned[1:], 10.0) == 0.5
    left_out, k_4, k_5 = budget.run(network, planned, 10.0)
    assert left_out.reason == "would take about 1e+09 s" and left_out.found is None
    assert k_4.found.upper == lb.bound(network, "K_4", 2).upper >= k_5.found.upper


def test_the_tightest_comes_first_once_half_of_the_time_is_over(monkeypatch):
    network = lb.from_weights([ARRAYS["W0"], ARRAYS["W1"]])
    names = ("K_4", "K_star", "K_3", "K_5")
    planned = [budget.Task(name, 2.0, "explicit", 1e-6) for name in names]
    planned[-1] = replace(planned[-1], estimate=math.inf)
    clock = itertools.chain([0.0, 1.0, 6.0, 7.0, 8.0])  # K_4 takes five seconds instead of 1e-6
    monkeypatch.setattr(budget, "now", lambda: next(clock))
    begun = []
    outcomes = list(budget.run(network, planned, 10.0, None, lambda task: begun.append(task.name)))
    assert begun == ["K_4", "K_5", "K_star", "K_3"]
    assert [outcome.task.name for outcome in outcomes] == begun


def test_sensitivity_draws_and_lists(folder):
    options = ("--radius", 0.5, "--json", "--out", folder / "map.png")
    found = json.loads(called("sensitivity", folder / "residual.onnx", *options).stdout)
    network = lb.from_onnx(folder / "residual.onnx")
    moved = lb.sensitivity(network, [0.5] * 4).tolist()
    assert list(found["outputs"].values()) == pytest.approx(moved)
    assert found["influence"] == pytest.approx(lb.influence(network).tolist())
    assert (folder / "map.png").read_bytes().startswith(b"\x89PNG")
    text = called("sensitivity", folder / "residual.onnx", "--output", 2).stdout
    assert "moves at most (K_4)" in text and "moves them by, per unit (K_4)" in text
    one = json.loads(
        called("sensitivity", folder / "residual.onnx", "--output", 2, "--json").stdout
    )
    assert set(one["outputs"]) == {"2"} and max(one["influence"]) < max(found["influence"])


def test_sensitivity_by_K_5_is_no_more(folder):
    pair = [
        json.loads(called("sensitivity", folder / "weights.npz", "--json", *options).stdout)
        for options in ((), ("--method", "K_5", "--time", 10))
    ]
    for cheap, least in zip(*(one["outputs"].values() for one in pair), strict=True):
        assert least <= cheap


def test_the_less_of_both_treatments(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    network = lb.from_torch(module, (1, 5, 5))
    both = lb.influence(network), lb.influence(lb.explicit(network))
    torch.testing.assert_close(influenced(network, None, 10.0), torch.minimum(*both))


@pytest.mark.parametrize("shape", ((7,), (1, 3, 4), (3, 4, 5), (2, 6), (3000,), (2, 3, 3, 3)))
def test_maps_of_any_shape(shape, tmp_path):
    values = torch.rand(shape, dtype=torch.float64).flatten()
    for kind in ("png", "svg", "pdf"):
        saved(influence_map(values, shape), tmp_path / f"map.{kind}")
        assert (tmp_path / f"map.{kind}").stat().st_size > 1000
    (axes, *_) = influence_map(values, shape).axes
    drawn = [bar.get_height() for bar in axes.patches] or axes.images[0].get_array()
    assert max(np.ravel(drawn)) == pytest.approx(float(values.max()))


def test_a_method_without_memory_has_that_as_its_reason(monkeypatch):
    network = lb.from_weights([ARRAYS["W0"], ARRAYS["W1"]])
    given = []

    def hungry(network, name, *arguments, **options):
        given.append(options.get("memory"))
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(budget, "bound", hungry)
    planned = [budget.Task(name, 2.0, "explicit", 1e-6) for name in ("K_4", "K_5")]
    outcomes = list(budget.run(network, planned, 10.0, 3.0))
    assert [one.reason for one in outcomes] == ["takes more memory than there is"] * 2
    assert given == [None, 1.5]


HUNGRY = """
import torch
from lipbounds.commandline.memory import memory_limited
from lipbounds.errors import out_of_memory

with memory_limited(0.25):
    torch.ones(2**20)
    try:
        torch.ones(2**28)
    except RuntimeError as error:
        print(out_of_memory(error))
torch.ones(2**27)
"""


def test_the_limit_of_memory_is_one():
    done = subprocess.run([sys.executable, "-c", HUNGRY], capture_output=True, text=True)
    assert done.stdout == "True\n" and done.returncode == 0, done.stderr


def test_no_memory_for_the_network_is_an_error_of_its_own(folder):
    np.savez(folder / "large.npz", W0=np.ones((4000, 4000)))
    command = [sys.executable, "-c", "from lipbounds.commandline.app import main; main()"]
    done = subprocess.run(
        [*command, "bounds", folder / "large.npz", "--memory", "0.01"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 4 and "not memory enough" in done.stderr and done.stdout == ""


def test_help_has_an_example_for_each_command():
    assert "bounds" in called("--help").stdout
    for command in ("bounds", "inspect", "sensitivity"):
        assert f"Example: lipbounds {command}" in called(command, "--help").stdout


def test_as_a_process_of_its_own(folder):
    command = [sys.executable, "-c", "from lipbounds.commandline.app import main; main()"]
    done = subprocess.run(
        [*command, "bounds", folder / "text.onnx"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("lipbounds: ") and done.stderr.count("\n") == 1
