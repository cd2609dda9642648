"""The linters are clean, and every figure and table has its caption."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
import yaml

from lipbounds.studies.plotting import FIGURES
from lipbounds.studies.tables import TABLES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    ["ruff check .", "snakefmt --check Snakefile workflow", "snakemake --lint"],
)
def test_linter(command):
    tool, *arguments = command.split()
    path = Path(sys.executable).parent / tool
    run = subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


def test_make_names_its_targets():
    run = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    targets = re.search(r"^\.PHONY: help (.*)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assert re.findall(r"^make (\w+)", run.stdout, re.M) == targets.split()


def test_every_caption_is_of_something_and_everything_has_one():
    captions = {path.stem for path in (ROOT / "workflow/report").glob("*.rst")}
    assert captions == {*FIGURES, *TABLES, "workflow"}


def test_captions_do_without_what_the_configuration_may_leave_out():
    """A limit, or an option, of a bound; the report is made after all the work."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for part, key in (("random", "limits"), ("random", "options"), ("mnist", "options")):
        assert config[part].pop(key)
        config[part][key] = {}
    environment = jinja2.Environment()
    for path in (ROOT / "workflow/report").glob("test*.rst"):
        caption = environment.from_string(path.read_text())
        text = caption.render(snakemake=SimpleNamespace(config=config))
        assert len(text) > 50 and "{" not in text


def test_every_value_of_the_configuration_is_explained():
    """A value stands on a line with a comment, or under a line with one."""
    bare = re.compile(r"^\s*\w+: [^#\n]+$", re.M)
    explained = re.compile(r"^    (mlp|small|strided|avgpool|two_fc|families)")
    lines = bare.findall((ROOT / "config/config.yaml").read_text())
    assert [line for line in lines if not explained.match(line)] == []
