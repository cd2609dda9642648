"""The pages are written for GitHub; what Python-Markdown reads otherwise is put in its terms."""

import re
from pathlib import Path

from markdown import Extension
from markdown.treeprocessors import Treeprocessor

ROOT = Path(__file__).parents[1]
ITEM = re.compile(r"^\d+\. .*\n(?:(?: {3}.*)?\n)+", re.MULTILINE)


def on_config(config):
    config.markdown_extensions.append(Repository())


def on_page_markdown(markdown, **_):
    """GitHub wants three spaces under a numbered item, Python-Markdown four."""
    return ITEM.sub(lambda item: re.sub(r"^(?= {3} *\S)", " ", item[0], flags=re.M), markdown)


class Links(Treeprocessor):
    """Those of README.md, which is outside docs/, and those to files of which there is no page."""

    def run(self, root):
        for link in root.iter("a"):
            path = link.get("href", "")
            if path.startswith("../") and (ROOT / path.removeprefix("../")).exists():
                link.tag = "code"
                del link.attrib["href"]
            else:
                link.set("href", path.removeprefix("docs/"))


class Repository(Extension):
    def extendMarkdown(self, md):
        md.treeprocessors.register(Links(md), "repository", 10)  # before mkdocs, which checks links
