"""The three lists of versions, pyproject.toml, requirements.txt and environment.yml, agree."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def pins(lines: list[str]) -> dict[str, str]:
    """name -> version of lines "name==version"; any other line is a mistake."""
    return dict(re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups() for line in lines)


def pyproject() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return pins(sum(extras, project["dependencies"]))


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


def test_the_three_lists_agree():
    named, _ = requirements()
    assert named == pyproject()
    assert named == pins([line for line in environment() if not line.startswith("-")])


def test_conda_takes_everything_else_from_the_same_files():
    assert {"-c requirements.txt", "-e ."} == {x for x in environment() if x.startswith("-")}


def test_python_is_the_same():
    text = (ROOT / "environment.yml").read_text(), (ROOT / "Makefile").read_text()
    assert "python=3.11\n" in text[0] and "(3, 11)" in text[1]


def test_build_backend_is_the_pinned_one():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert pins(build) == {"setuptools": requirements()[0]["setuptools"]}


def test_installed_versions_are_the_pinned_ones():
    pinned = dict(pair for part in requirements() for pair in part.items())
    installed = {name: version(name).split("+")[0] for name in pinned}  # torch may say +cpu
    assert installed == pinned
