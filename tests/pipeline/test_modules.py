"""The modules each rule names among its inputs are the ones its script really imports."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "lipbounds"


def modules_named() -> dict[str, list[str]]:
    """MODULES of workflow/rules/modules.smk, which is plain Python."""
    names: dict = {}
    exec((ROOT / "workflow/rules/modules.smk").read_text(), names)
    return names["MODULES"]


def file_of(module: str) -> Path | None:
    """The file of a module of the package; None for what is not a module, such as a function."""
    path = ROOT / "src" / Path(*module.split("."))
    candidates = [path.with_suffix(".py"), path / "__init__.py"]
    return next((candidate for candidate in candidates if candidate.exists()), None)


def imports(path: Path) -> set[Path]:
    """The files of the package that one file imports, at its top or inside a function."""
    inside = PACKAGE in path.parents
    package = ["lipbounds", *path.relative_to(PACKAGE).parts[:-1]] if inside else []
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    # Importing any module runs the packages it lies in, so their __init__.py count as well.
    ours = [name.split(".") for name in found if name.split(".")[0] == "lipbounds"]
    prefixes = {".".join(parts[:n]) for parts in ours for n in range(1, len(parts) + 1)}
    return {file for prefix in prefixes if (file := file_of(prefix))}


def closure(script: Path) -> set[str]:
    """All files of the package that a script reaches, but for the package's own __init__.py.

    That one imports nearly everything, for the convenience of users; the scripts import what they
    use from where it is defined, so that nothing in it bears on their results.
    """
    reached, waiting = set(), {script}
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting |= imports(path) - reached - {PACKAGE / "__init__.py"}
    return {str(path.relative_to(ROOT)) for path in reached - {script}}


@pytest.mark.parametrize("name", modules_named())
def test_modules_are_those_the_script_imports(name):
    assert set(modules_named()[name]) == closure(ROOT / f"workflow/scripts/{name}.py")


@pytest.mark.parametrize("script", sorted((ROOT / "workflow/scripts").glob("*.py")))
def test_scripts_import_from_where_things_are_defined(script):
    """`import lipbounds as lb` would hide what a script depends on."""
    assert PACKAGE / "__init__.py" not in {
        file_of(name)
        for name in re.findall(r"^(?:import|from) (lipbounds)(?: |$)", script.read_text(), re.M)
    }


def test_rules_name_their_modules():
    """Every rule with a script has its modules among its inputs, but for the fetching of MNIST."""
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    scripts = set(re.findall(r'"\.\./scripts/(\w+)\.py"', rules))
    named = set(re.findall(r'modules=MODULES\["(\w+)"\]', rules))
    assert scripts - named == {"fetch_mnist"}
    assert named == set(modules_named())
