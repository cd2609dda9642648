"""Several tidy tables in one."""

from typing import TYPE_CHECKING

from lipbounds.studies.tidy import concat, read, write_csv

from job import run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(tables: list[str], table: str) -> None:
    write_csv(concat(map(read, tables)), table)


if "snakemake" in globals():
    run(main, snakemake)
