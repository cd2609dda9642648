"""Test 4 as the paper would print it, as CSV, Markdown, LaTeX and HTML."""

from typing import TYPE_CHECKING

from lipbounds.files import write_text
from lipbounds.tables import paper, to_latex, to_markdown
from lipbounds.tidy import read, write_csv

from job import run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(table: str, csv: str, md: str, tex: str, html: str) -> None:
    rows = paper(read(table))
    write_csv(rows, csv)
    write_text(to_markdown(rows), md)
    write_text(to_latex(rows), tex)
    write_text(rows.to_html(index=False), html)


if "snakemake" in globals():
    run(
        main,
        snakemake.log[0],
        table=snakemake.input.table,
        csv=snakemake.output.csv,
        md=snakemake.output.md,
        tex=snakemake.output.tex,
        html=snakemake.output.html,
    )
