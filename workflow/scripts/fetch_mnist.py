"""The four MNIST files, from the first source that has them."""

from typing import TYPE_CHECKING

from lipbounds.studies.mnist_files import fetch

from job import progress, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(directory: str, sources: list[str], local: str, timeout: float) -> None:
    progress.info("fetching MNIST from one of: %s", ", ".join(sources))
    progress.info("MNIST: %s", fetch(directory, sources, local, timeout))


if "snakemake" in globals():
    run(main, snakemake)
