"""Test 3 in numbers, as CSV, Markdown and HTML."""

from typing import TYPE_CHECKING

from lipbounds.files import write_text
from lipbounds.tables import relations, to_markdown
from lipbounds.tidy import read, write_csv

from job import run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(table: str, csv: str, md: str, html: str) -> None:
    rows = relations(read(table))
    write_csv(rows, csv)
    write_text(to_markdown(rows), md)
    write_text(rows.to_html(index=False, float_format="%.4g", na_rep=""), html)


if "snakemake" in globals():
    run(
        main,
        snakemake.log[0],
        table=snakemake.input.table,
        csv=snakemake.output.csv,
        md=snakemake.output.md,
        html=snakemake.output.html,
    )
