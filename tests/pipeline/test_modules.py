"""The modules each rule has among its inputs are those that its script really loads."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lipbounds.methods.registry import BOUNDS, PAPER

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "lipbounds"
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
RULES: dict = {"workflow": SimpleNamespace(basedir=str(ROOT))}
exec((ROOT / "workflow/rules/modules.smk").read_text(), RULES)  # plain Python but for `workflow`
modules = RULES["modules"]


def loaded(script: Path, bounds: list[str]) -> set[str]:
    """The files of the package that Python has loaded once the script's imports have run and the
    bounds are there, with the package's own __init__.py, which imports nearly everything, replaced
    by an empty one."""
    pattern = r"^(?:from|import) lipbounds(?:.*\(\n(?:.*\n)*?\)|.*)$"
    lines = re.findall(pattern, script.read_text(), re.M)
    code = "\n".join(
        [
            "import sys, types",
            "empty = types.ModuleType('lipbounds')",
            f"empty.__path__ = [{str(PACKAGE)!r}]",
            "sys.modules['lipbounds'] = empty",
            *lines,
            *(["from lipbounds.methods.registry import BOUNDS"] if bounds else []),
            *[f"BOUNDS[{bound!r}].compute" for bound in bounds],
            "for name, module in sys.modules.items():",
            "    if name.startswith('lipbounds.'): print(module.__file__)",
        ]
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return {str(Path(line).relative_to(ROOT)) for line in result.stdout.split()}


@pytest.mark.parametrize(
    "script, bounds",
    [
        ("compare", list(BOUNDS)),
        ("bounds_mnist", [*PAPER, "K_5"]),
        ("bounds_analytic", ["lipopt"]),
        ("figures", []),
    ],
)
def test_modules_are_those_the_script_loads(script, bounds):
    own = {"workflow/scripts/job.py"}
    found = loaded(ROOT / f"workflow/scripts/{script}.py", bounds)
    assert found | own == set(modules(script, bounds))


def test_the_registry_is_read_as_python_reads_it():
    for name, place in RULES["places"]().items():
        assert place == Path(sys.modules[BOUNDS[name].compute.__module__].__file__)
    assert list(RULES["places"]()) == list(BOUNDS)


def test_a_bound_that_runs_others_depends_on_them_all():
    """best and norm_equivalence take their bounds from the registry, by names given as options."""
    everything = {str(place.relative_to(ROOT)) for place in RULES["places"]().values()}
    for bound in ("best", "norm_equivalence"):
        assert everything <= set(modules("compare", [bound]))


def test_a_bound_that_is_not_asked_for_is_no_input():
    lipopt = "src/lipbounds/methods/lipopt.py"
    assert lipopt not in modules("bounds_analytic", [*PAPER, "K_5"])
    assert lipopt not in modules("compare", ["K_4", "geolip"])
    assert lipopt in modules("compare", ["K_4", "lipopt"])


def test_tables_and_figures_depend_on_no_bound():
    places = {str(place.relative_to(ROOT)) for place in RULES["places"]().values()}
    for script in ("collect", "figures", "table"):
        assert not places & set(modules(script))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_import_from_where_things_are_defined(script):
    """`import lipbounds as lb` would hide what a script depends on."""
    assert not re.findall(r"^(?:import|from) lipbounds(?: |$)", script.read_text(), re.M)


def test_rules_name_their_modules():
    """Every rule with a script has its modules among its inputs, but for the fetching of MNIST."""
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    scripts = set(re.findall(r'"\.\./scripts/(\w+)\.py"', rules))
    named = set(re.findall(r'modules=modules\("(\w+)"', rules))
    assert scripts - named == {"fetch_mnist"}
    assert {path.stem for path in SCRIPTS} - named == {"fetch_mnist", "job", "unlock"}
