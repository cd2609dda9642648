"""Figures, each from the table of its test, as PNG and PDF."""

from pathlib import Path
from typing import TYPE_CHECKING

from lipbounds.studies.plotting import FIGURES, save
from lipbounds.studies.tidy import read

from job import progress, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(tables: list[str], files: list[str]) -> None:
    """The file test1_bounds.png holds the figure test1_bounds, drawn from the table test1.csv."""
    rows = {Path(table).stem: read(table) for table in tables}
    names = dict.fromkeys(Path(file).stem for file in files)
    drawn = {name: FIGURES[name](rows[name.split("_")[0]]) for name in names}
    for file in files:
        progress.info("%s", file)
        save(drawn[Path(file).stem], file)


if "snakemake" in globals():
    run(main, snakemake.log[0], tables=snakemake.params.tables, files=snakemake.params.files)
