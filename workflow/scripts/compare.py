"""Test 5: every method, and the truth as far as it can be had, on one network."""

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
    network: str,
    described: dict,
    ladder: str,
    size: dict[str, int],
    directory: str,
    images: int,
    seed: int,
    bounds: list[str],
    norms: list[float],
    seconds: float,
    table: str,
    checkpoint: str | None = None,
) -> None:
    """described: what the network of that name is. size: width and depth on a ladder. directory: of
    MNIST. checkpoint: of a trained network."""
    if checkpoint is None:
        built, points = build(described, seed), None
    else:
        built = from_torch(mnist.load(checkpoint)[0], mnist.SHAPE)
        points = load(directory, train=False)[0][:images].unsqueeze(1).double() / 255

    def say(row: dict) -> None:
        outcome = f"{row['value']:.6g} {row['reason']}"
        progress.info("%s: %s, l%g: %s", network, row["bound"], row["norm"], outcome)

    frame = compare(built, bounds, norms, seconds, points, seed, say)
    write_csv(tidy(frame, test="test5", case=network, seed=seed, family=ladder, **size), table)


if "snakemake" in globals():
    run(main, snakemake)
