"""Test 5 in one table, every method beside the truth, as CSV, Markdown, LaTeX and HTML."""

from typing import TYPE_CHECKING

from lipbounds.studies.tables import comparison, with_notes, write
from lipbounds.studies.tidy import read

from job import run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(table: str, csv: str, md: str, tex: str, html: str) -> None:
    """The CSV says in each cell why there is no value, the others in numbered notes."""
    rows = comparison(read(table))
    write(rows, csv)
    printed, notes = with_notes(rows)
    for file in (md, tex, html):
        write(printed, file, notes)


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
