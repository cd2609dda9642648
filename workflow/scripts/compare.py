"""Test 5: every method, and the truth as far as it can be had, on one network."""

from pathlib import Path
from typing import TYPE_CHECKING

from lipbounds.comparison import compare
from lipbounds.frontends.modules import from_torch
from lipbounds.studies.cases import mnist
from lipbounds.studies.cases.comparison import build
from lipbounds.studies.mnist_files import load
from lipbounds.studies.tidy import tidy, write_csv

from job import progress, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    name: str,
    ladder: str,
    size: dict[str, int],
    checkpoint: str | None,
    directory: Path | None,
    images: int,
    seed: int,
    methods: list[str],
    norms: list[float],
    seconds: float,
    table: str,
) -> None:
    """size: width and depth on a ladder. checkpoint, directory: of a trained network."""
    if checkpoint is None:
        network, points = build(name, seed), None
    else:
        network = from_torch(mnist.load(checkpoint)[0])
        points = load(directory, train=False)[0][:images].unsqueeze(1).double() / 255

    def say(row: dict) -> None:
        outcome = f"{row['value']:.6g} {row['reason']}"
        progress.info("%s: %s, l%g: %s", name, row["bound"], row["norm"], outcome)

    frame = compare(network, methods, norms, seconds, points, seed, say)
    write_csv(tidy(frame, test="test5", case=name, seed=seed, family=ladder, **size), table)


if "snakemake" in globals():
    trained = hasattr(snakemake.input, "checkpoint")
    run(
        main,
        snakemake.log[0],
        name=snakemake.wildcards.network,
        ladder=snakemake.wildcards.ladder,
        size=snakemake.params.size,
        checkpoint=snakemake.input.checkpoint if trained else None,
        directory=Path(snakemake.input.mnist[0]).parents[2] if trained else None,
        images=snakemake.params.images,
        seed=snakemake.params.seed,
        methods=snakemake.params.methods,
        norms=snakemake.params.norms,
        seconds=snakemake.params.seconds,
        table=snakemake.output.table,
    )
