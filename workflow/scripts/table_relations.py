"""Test 3 in numbers, as CSV, Markdown and HTML."""

from typing import TYPE_CHECKING

from lipbounds.studies.tables import relations, write
from lipbounds.studies.tidy import read

from job import run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(table: str, files: list[str]) -> None:
    rows = relations(read(table))
    for file in files:
        write(rows, file)


if "snakemake" in globals():
    run(main, snakemake.log[0], table=snakemake.input.table, files=list(snakemake.output))
