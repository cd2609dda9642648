"""One of the tables derived from a test's tidy one, in each of the formats asked for."""

from typing import TYPE_CHECKING

from lipbounds.studies.tables import TABLES, write
from lipbounds.studies.tidy import read

from job import run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(name: str, rows: str, files: list[str]) -> None:
    table = TABLES[name](read(rows))
    for file in files:
        write(table, file)


if "snakemake" in globals():
    run(main, snakemake)
