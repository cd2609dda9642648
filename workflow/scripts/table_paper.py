"""Test 4 as the paper would print it, as CSV, Markdown, LaTeX and HTML."""

from typing import TYPE_CHECKING

from lipbounds.studies.tables import paper, with_notes, write
from lipbounds.studies.tidy import read

from job import run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(table: str, files: list[str]) -> None:
    rows, notes = with_notes(paper(read(table)))
    for file in files:
        write(rows, file, notes)


if "snakemake" in globals():
    run(main, snakemake.log[0], table=snakemake.input.table, files=list(snakemake.output))
