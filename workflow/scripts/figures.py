"""Figures, each from the table of its test, as PNG and PDF."""

from typing import TYPE_CHECKING

from lipbounds.studies.plotting import FIGURES, save
from lipbounds.studies.tidy import read

from job import progress, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(drawn: dict[str, dict[str, list[str]]]) -> None:
    """drawn: by the table that they are drawn from, the figures' names and their files."""
    for table, figures in drawn.items():
        rows = read(table)
        for name, files in figures.items():
            figure = FIGURES[name](rows)
            for file in files:
                progress.info("%s", file)
                save(figure, file)


if "snakemake" in globals():
    run(main, snakemake)
