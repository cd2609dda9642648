"""requirements.txt and environment.yml pin the same versions, within pyproject.toml's ranges, and
the library needs no more than pyproject.toml says."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def pins(lines: list[str]) -> dict[str, str]:
    """name -> version of lines "name==version"; any other line is a mistake."""
    return dict(re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups() for line in lines)


def pyproject() -> list[Requirement]:
    """The ranges of the library and of all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return list(map(Requirement, sum(extras, project["dependencies"])))


def requirements() -> tuple[dict[str, str], dict[str, str]]:
    """The two parts of requirements.txt: what is named, and what those need in turn."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    blank = lines.index("")
    parts = lines[:blank], lines[blank + 1 :]
    named, needed = ([line for line in part if not line.startswith("#")] for part in parts)
    return pins(named), pins(needed)


def environment() -> list[str]:
    """The lines for pip in environment.yml."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return next(entry["pip"] for entry in dependencies if isinstance(entry, dict))


def test_every_pin_is_within_its_range():
    named, _ = requirements()
    assert set(named) == {needed.name for needed in pyproject()}
    wrong = [str(needed) for needed in pyproject() if named[needed.name] not in needed.specifier]
    assert not wrong


def test_ranges_are_ranges():
    for needed in pyproject():
        assert {bound.operator for bound in needed.specifier} <= {">=", "<"}, needed


def test_conda_pins_the_same():
    named, _ = requirements()
    assert named == pins([line for line in environment() if not line.startswith("-")])


def test_conda_takes_everything_else_from_the_same_files():
    assert {"-c requirements.txt", "-e ."} == {x for x in environment() if x.startswith("-")}


def test_python_is_the_same():
    text = (ROOT / "environment.yml").read_text(), (ROOT / "Makefile").read_text()
    assert "python=3.11\n" in text[0] and "(3, 11)" in text[1]


def test_build_backend_may_be_the_pinned_one():
    (build,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert requirements()[0]["setuptools"] in Requirement(build).specifier


def test_installed_versions_are_the_pinned_ones():
    pinned = dict(pair for part in requirements() for pair in part.items())
    installed = {name: version(name).split("+")[0] for name in pinned}  # torch may say +cpu
    assert installed == pinned


USE = """
import sys
import torch
import lipbounds as lb

module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
network = lb.from_torch(module.eval(), input_shape=(2,))
lb.bounds(network)
lb.bound(network, "K_5", 2)
lb.compare(network, norms=[2], seconds=1)
print(*sys.modules)
"""


def test_the_library_loads_nothing_of_the_studies_or_the_workflow():
    run = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for extra in ("studies", "workflow"):
        names = {Requirement(line).name.lower() for line in extras[extra]}
        assert not names & loaded
    assert "lipbounds.studies" not in loaded and "pandas" in loaded
