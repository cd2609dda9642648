"""The site of `make site`: its pages exist and are complete, and what they show runs."""

import importlib.util
import re
import shlex
from pathlib import Path

import markdown
import pytest
import yaml
from typer.testing import CliRunner

import lipbounds as lb
from lipbounds.commandline.app import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SECONDS = "2"  # instead of those of the page


def pages(entry):
    """Of a part of the navigation: a page, {title: part}, or a list of parts."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in pages(part)]


def test_every_page_exists():
    named = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert set(named) == {page.name for page in DOCS.glob("*.md")}


def test_every_name_is_in_the_reference():
    text = (DOCS / "api.md").read_text()
    shown = re.findall(r"^(?:::: lipbounds\.(?:Network\.)?|### )(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(lb.__all__)


def test_every_command_is_in_the_reference():
    shown = re.findall(r"^lipbounds (\w+) --help$", (DOCS / "cli.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(command.callback.__name__ for command in app.registered_commands)


def test_what_the_minute_shows_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = re.sub(r"(--time |seconds=)\d+", rf"\g<1>{SECONDS}", (DOCS / "minute.md").read_text())
    make, use = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    commands = re.findall(r"^\$ lipbounds (.*)$", text, re.MULTILINE)
    exec(make, {})
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command))
        assert result.exit_code == 0, result.output
    exec(use, {})
    assert len(commands) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"network.onnx", "report.html", "map.png"}


@pytest.fixture(scope="module")
def mathml():
    spec = importlib.util.spec_from_file_location("mathml", ROOT / "docs-hooks/mathml.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# A formula, and what its MathML says without its tags.
FORMULAS = {
    "K_*": "K*",
    r"|A| \le \|B\|_2": "|A|≤‖B‖2",
    r"\big\{ |T_k| \le I \big\}": "{|Tk|≤I}",
    r"\big\| \Sigma \big\|_2": "‖Σ‖2",
    r"\mathrm{diag}(\mathbf 1)": "diag(𝟏)",
    r"\mathbb R^n": "ℝn",
    r"\mathbb{R}^n": "ℝn",
    r"\mathcal N": "𝒩",
    r"x' + W_k' + \sigma'": "x′+W′k+σ′",
    r"U \setminus A": "U∖A",
    r"Q \succeq 0 \iff s \ge 0": "Q⪰0⟺s≥0",
    r"x \tanh(\log u) \tag{1}": "xtanh(logu)(1)",
}


@pytest.mark.parametrize("latex", FORMULAS)
def test_formulas_become_mathml(latex, mathml):
    for html in (mathml.inline(latex), mathml.block(latex)):
        assert re.sub(r"<.*?>|\s", "", html) == FORMULAS[latex]
        assert html.count("<math") == html.count("</math>") and "mathvariant" not in html


def test_all_formulas_of_the_pages_become_mathml(mathml):
    text = "\n".join(page.read_text() for page in DOCS.glob("*.md"))
    for line, block in re.findall(r"\$`(.+?)`\$|```math\n(.*?)```", text, re.DOTALL):
        assert "<math" in (mathml.inline(line) if line else mathml.block(block))


def test_a_macro_that_is_not_known_is_an_error(mathml):
    with pytest.raises(ValueError, match="has no MathML"):
        mathml.inline(r"\unheardof x")


def test_long_formulas_may_be_broken_and_keep_their_punctuation(mathml):
    html = mathml.inline("a_1 + a_2 + a_3 + a_4 + a_5 + a_6 + a_7 + a_8 = b", "(", "),")
    assert html.count("<math") == 9
    assert html.startswith('<span class="math">(<math') and html.endswith("</math>),</span>")


PAGE = r"""The norm ($`\|A\|`$), the code `$x$` and

```python
"$`y`$"
```

| row | $`\lvert a \rvert`$ |
|---|---|
| 1 | `a` |

```math
f = A_L \circ \sigma_L .
```
"""


def test_code_is_left_alone(mathml):
    fences = [{"name": "math", "class": "", "format": mathml.block}]
    extensions = ["tables", "pymdownx.superfences", mathml.Formulas()]
    options = {"pymdownx.superfences": {"custom_fences": fences}}
    html = markdown.markdown(PAGE, extensions=extensions, extension_configs=options)
    assert html.count("<math") == 3 and html.count('<div class="formula">') == 1
    assert "<code>$x$</code>" in html and "$`y`$" in re.sub("<.*?>|&quot;", "", html)
    assert '<span class="math">(<math' in html and "</math>),</span>" in html
