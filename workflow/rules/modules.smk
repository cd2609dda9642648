# The files of the package that each script imports, directly or not. Snakemake sees a changed script
# but not a changed module, so they are inputs: a changed formula makes its rows again, a changed
# plot or printed table only that. tests/pipeline/test_modules.py compares this with what Python loads.
import ast
from functools import cache
from pathlib import Path


def file_of(root, module):
    """The file of a module of the package; None for what is not a module, such as a function."""
    path = root / "src" / Path(*module.split("."))
    candidates = [path.with_suffix(".py"), path / "__init__.py"]
    return next((candidate for candidate in candidates if candidate.exists()), None)


@cache
def imported(root, path):
    """The files of the package that one file imports, at its top or inside a function."""
    source = root / "src"
    package = path.relative_to(source).parts[:-1] if source in path.parents else ()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    # Importing any module runs the packages it lies in, so their __init__.py count as well.
    ours = [name.split(".") for name in found if name.split(".")[0] == "lipbounds"]
    prefixes = {".".join(parts[:n]) for parts in ours for n in range(1, len(parts) + 1)}
    return {file for prefix in prefixes if (file := file_of(root, prefix))}


def modules(root, script):
    """All files of the package that a script reaches, but for the package's own __init__.py.

    That one imports nearly everything, for the convenience of users; the scripts import what they
    use from where it is defined, so that nothing in it bears on their results.
    """
    reached, waiting = set(), {root / "workflow/scripts" / f"{script}.py"}
    top = root / "src/lipbounds/__init__.py"
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting |= imported(root, path) - reached - {top}
    return sorted(str(path.relative_to(root)) for path in reached if root / "src" in path.parents)


MODULES = {
    path.stem: modules(Path(workflow.basedir), path.stem)
    for path in sorted((Path(workflow.basedir) / "workflow/scripts").glob("*.py"))
}
