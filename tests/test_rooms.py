"""The rooms of docs/architecture.md: imports go one way, and the document names every module."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/lipbounds"
DOCUMENT = (ROOT / "docs/architecture.md").read_text()
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("[!_]*.py"))


def rooms():
    """In the order of the document's first table."""
    table = DOCUMENT.split("\n\n")[2].splitlines()[2:]
    return [re.findall(r"`(\w+)/?`", line.split("|")[1]) for line in table]


def room(path):
    return path.parts[0].removesuffix(".py")


def imported(path):
    """The rooms that a module of the package imports from, wherever the import stands."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = path.parent.parts[: len(path.parent.parts) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((*above, *name.split("."))[0] for name in names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("lipbounds."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_one_way(path):
    level = {name: i for i, names in enumerate(rooms()) for name in names}
    own = level[room(path)]
    above = {name for name in imported(path) if level[name] > own}
    assert not above, f"{path} imports from {above}, below it in docs/architecture.md"


def test_no_room_is_left_out():
    named = {name for names in rooms() for name in names}
    assert named == {room(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_the_document_names_every_module(path):
    parent = path.parent.name
    whole = parent in ("cases", "plotting")  # named by their folder
    assert f"`{parent}/`" in DOCUMENT if whole else f"`{path.stem}`" in DOCUMENT
