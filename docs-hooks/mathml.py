"""GitHub's mathematics, $`...`$ and ```math, becomes MathML: it needs no script and no network."""

import re
from html import escape
from itertools import pairwise
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Extension
from markdown.inlinepatterns import InlineProcessor
from pymdownx.superfences import SuperFencesException

# What latex2mathml gets wrong, or writes as attributes that MathML Core has not.
REWRITTEN = {
    r"\\[bB]ig(\||\\\|)(.*?)\\[bB]ig\1": r"\\left\1\2\\right\1",
    r"\\[bB]ig([(\[]|\\\{)": r"\\left\1",
    r"\\[bB]ig([)\]]|\\\})": r"\\right\1",
    r"(\\begin\{pmatrix\}.*?\\end\{pmatrix\})": r"{\1}",  # alone, with parentheses of its size
    r"\\tag\{(\w+)\}": r"\\qquad \\text{(\1)}",
    r"\\mathrm\b": r"\\text",
    r"\\mathbf 1": "𝟏",
    r"\\mathbb E": "𝔼",
    r"\\mathbb *(R|\{R\})": "ℝ",
    r"\\mathcal N": "𝒩",
    r"\\infty\b": "∞",
    r"\\setminus\b": "∖",
    r"\\iff\b": r"\\Longleftrightarrow",
    r"([A-Za-z])_(\w)'": r"{\1′}_\2",  # a raised prime is too small to see
    r"(\\[a-z]+|[A-Za-z])'": r"{\1′}",
    r"'": "′",
    r" : ": r"\\;:\\;",
    r"\\!": "",
}
LIMITS = r"\\(max|min|sup|inf|sum|prod)_"  # below their operator, in a line of their own
OPERATORS = set("⪰⪯⟺∖⟂")  # letters to latex2mathml
TIGHT = set("|‖/…")
SIGNS, CLOSED = set("−+±∓"), set(")]}⟩|‖")  # a sign has an operand before it, or a closed one
BREAKS = set("=≤≥<>∈⪰≻⪯↦⟹⟺+−⋯")  # a long formula in a line of text may go on in the next
SUMS = set("∑∏")
LONG = 24  # characters


def on_config(config):
    config.markdown_extensions.append(Formulas())
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences.setdefault("custom_fences", []).append({"name": "math", "class": "", "format": block})


def tree(latex: str, display: str) -> ElementTree.Element:
    """The formula as an element <math>. Raises ValueError for what cannot be converted."""
    for pattern, instead in REWRITTEN.items():
        latex = re.sub(pattern, instead, latex, flags=re.DOTALL)
    found = ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", convert(latex, display=display)))
    for element in found.iter():
        if "\\" in (element.text or ""):
            raise ValueError(f"{element.text} of {latex!r} has no MathML; see docs-hooks/mathml.py")
        spaced(element)
    for row in found.iter():
        for before, after in pairwise(row):
            if before.tag == "mo":
                adjusted(before, after)
    return found


def spaced(element: ElementTree.Element) -> None:
    """Space around the names of functions, none around bars."""
    text = element.text or ""
    name = element.tag in ("mi", "mo") and len(text) > 1 and text.isalpha()
    if name or text in OPERATORS:
        element.tag = "mo"
    if name:
        element.attrib |= {"lspace": "0.17em", "rspace": "0.17em"}
    if text in TIGHT:
        element.attrib |= {"lspace": "0", "rspace": "0"}


def adjusted(operator: ElementTree.Element, after: ElementTree.Element) -> None:
    """No space between a function and its parenthesis, or a sign and its number."""
    if after.text == "(" and operator.text.isalpha():
        operator.set("rspace", "0")
    if after.text in SIGNS and operator.text not in CLOSED:
        after.set("form", "prefix")


def block(latex: str, *_, **__) -> str:
    try:
        found = tree(re.sub(LIMITS, r"\\\1\\limits_", latex), "block")
    except Exception as error:  # superfences would go on after any other
        raise SuperFencesException(str(error)) from error
    return f'<div class="formula">{ElementTree.tostring(found, "unicode")}</div>'


def inline(latex: str, before: str = "", after: str = "") -> str:
    """The formula in parts between which a line may end, with the punctuation that clings to it."""
    parts = [ElementTree.tostring(part, "unicode") for part in broken(tree(latex, "inline"))]
    parts[0] = escape(before) + parts[0]
    parts[-1] += escape(after)
    return "".join(f'<span class="math">{part}</span>' for part in parts)


def broken(formula: ElementTree.Element) -> list[ElementTree.Element]:
    """A long formula ends a part at each relation, sign and row of dots, and before each sum."""
    if len("".join(formula.itertext())) <= LONG:
        return [formula]
    parts = [ElementTree.Element("math")]
    for place, element in enumerate(formula[0]):
        if next(element.itertext(), "") in SUMS:
            parts.append(ElementTree.Element("math"))
        parts[-1].append(element)
        if place and element.text in BREAKS and element.get("form") != "prefix":
            element.set("form", "infix")
            parts.append(ElementTree.Element("math"))
    return [part for part in parts if len(part)]


class Formula(InlineProcessor):
    def handleMatch(self, match, data):
        return self.md.htmlStash.store(inline(match[2], match[1], match[3])), *match.span()


class Formulas(Extension):
    def extendMarkdown(self, md):
        pattern = Formula(r"(\(?)\$`(.+?)`\$([.,;:)]*)", md)
        md.inlinePatterns.register(pattern, "formula", 200)  # before the backticks
