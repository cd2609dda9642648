# The files of the package that jobs depend on, those that the script imports, directly or not, and
# those of the bounds that the configuration asks for, which the registry imports by name.
# Snakemake sees a changed script but not a changed module, so they are inputs: a changed formula
# makes its rows again, a changed plot or printed table only that.
# tests/pipeline/test_modules.py compares this with what Python loads.
import ast
from functools import cache
from pathlib import Path

ROOT = Path(workflow.basedir)
PACKAGE = ROOT / "src/lipbounds"
JOB = ROOT / "workflow/scripts/job.py"  # which every script runs in
REGISTRY = PACKAGE / "methods/registry.py"


def file_of(module):
    """The file of a module of the package; None for what is not a module, such as a function."""
    path = PACKAGE.parent / Path(*module.split("."))
    candidates = [path.with_suffix(".py"), path / "__init__.py"]
    return next((candidate for candidate in candidates if candidate.exists()), None)


@cache
def parsed(path):
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imported(path):
    """The files of the package that one file imports, at its top or inside a function."""
    inside = PACKAGE in path.parents
    package = path.relative_to(PACKAGE.parent).parts[:-1] if inside else ()
    found = set()
    for node in parsed(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    # Importing any module runs the packages it lies in, so their __init__.py count as well.
    ours = [name.split(".") for name in found if name.split(".")[0] == "lipbounds"]
    prefixes = {".".join(parts[:n]) for parts in ours for n in range(1, len(parts) + 1)}
    return {file for prefix in prefixes if (file := file_of(prefix))}


def reached(*files):
    """These files and all that they import, but for the package's own __init__.py.

    That one imports nearly everything, for the convenience of users; scripts and modules import
    what they use from where it is defined, so that nothing in it bears on their results.
    """
    found, waiting = set(), set(files)
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= imported(path) - found - {PACKAGE / "__init__.py"}
    return found


def places():
    """The file of each bound, from its place "module:function" in the registry, by its name."""
    entries = [
        node.args
        for node in parsed(REGISTRY)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Method"
    ]
    return {
        name.value: REGISTRY.parent / f"{place.value.split(':')[0]}.py"
        for name, place, *_ in entries
    }


def modules(script, bounds=()):
    """The files of the package, and job.py, that jobs with this script and these bounds depend on."""
    of = places()
    files = reached(ROOT / f"workflow/scripts/{script}.py")
    for bound in bounds:
        own = reached(of[bound])
        files |= reached(*of.values()) if REGISTRY in own else own  # it runs others, by their names
    kept = {path for path in files if PACKAGE in path.parents}
    return sorted(str(path.relative_to(ROOT)) for path in kept | {JOB})
