"""The modules each rule has among its inputs are those that its script really loads."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "lipbounds"
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))


def modules_named() -> dict[str, list[str]]:
    """MODULES of workflow/rules/modules.smk, which is plain Python but for `workflow`."""
    names: dict = {"workflow": SimpleNamespace(basedir=str(ROOT))}
    exec((ROOT / "workflow/rules/modules.smk").read_text(), names)
    return names["MODULES"]


def loaded(script: Path) -> set[str]:
    """The files of the package that Python has loaded once the script's imports have run, with the
    package's own __init__.py, which imports nearly everything, replaced by an empty one."""
    pattern = r"^(?:from|import) lipbounds(?:.*\(\n(?:.*\n)*?\)|.*)$"
    lines = re.findall(pattern, script.read_text(), re.M)
    code = "\n".join(
        [
            "import sys, types",
            "empty = types.ModuleType('lipbounds')",
            f"empty.__path__ = [{str(PACKAGE)!r}]",
            "sys.modules['lipbounds'] = empty",
            *lines,
            "for name, module in sys.modules.items():",
            "    if name.startswith('lipbounds.'): print(module.__file__)",
        ]
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return {str(Path(line).relative_to(ROOT)) for line in result.stdout.split()}


@pytest.mark.parametrize("name", ["compare", "bounds_mnist", "figures"])
def test_modules_are_those_the_script_loads(name):
    named = set(modules_named()[name])
    assert loaded(ROOT / f"workflow/scripts/{name}.py") == named


def test_scripts_depend_on_nothing_else():
    """An edit to a bound makes no figure and no collected table again."""
    named = modules_named()
    for name in ("collect", "figures", "table_paper"):
        assert not [path for path in named[name] if "/bounds/" in path or "network" in path]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_import_from_where_things_are_defined(script):
    """`import lipbounds as lb` would hide what a script depends on."""
    assert not re.findall(r"^(?:import|from) lipbounds(?: |$)", script.read_text(), re.M)


def test_rules_name_their_modules():
    """Every rule with a script has its modules among its inputs, but for the fetching of MNIST."""
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    scripts = set(re.findall(r'"\.\./scripts/(\w+)\.py"', rules))
    named = set(re.findall(r'modules=MODULES\["(\w+)"\]', rules))
    assert scripts - named == {"fetch_mnist"}
    assert set(modules_named()) - named == {"fetch_mnist", "job", "unlock"}
