"""Test 3: all bounds of the random networks of one distribution and depth, at all widths."""

import math
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from lipbounds.linear.operators import dense
from lipbounds.methods.run import bounds
from lipbounds.networks.network import Network
from lipbounds.studies.cases.random import ensemble
from lipbounds.studies.tidy import concat, tidy, write_csv
from lipbounds.truth.enumeration import enumerated_optimum

from job import progress, report, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def optima(network: Network, norms: list[float]) -> pd.DataFrame:
    """D* of an ensemble: a frame with columns sample, norm, relaxation_optimum."""
    values = {norm: enumerated_optimum(network, norm).tolist() for norm in norms}
    frame = pd.DataFrame(values).rename_axis("sample").reset_index()
    return frame.melt("sample", var_name="norm", value_name="relaxation_optimum")


def first(network: Network, count: int) -> Network:
    """The first so many networks of an `ensemble` (ReLU, no biases)."""
    return Network.from_weights([dense(affine.operator)[:count] for affine in network.affines])


def main(
    distribution: str,
    depth: int,
    widths: list[int],
    samples: int,
    seed: int,
    seqlip_budget: float,
    enumerated_neurons: dict[float, int],
    k5_samples: int,
    k5_neurons: dict[float, int],
    names: list[str],
    norms: list[float],
    table: str,
) -> None:
    cheap = [name for name in names if name != "K_5"]
    frames = []
    for width in widths:
        case = f"{distribution}_depth{depth}_width{width}"
        network = ensemble(distribution, width, depth, samples, seed)
        options = {"K_2": {"budget": seqlip_budget}, "K_5": {"seconds": math.inf}}
        run = partial(bounds, options=options, progress=partial(report, case))
        frame = run(network, cheap, norms)
        fast = [norm for norm in norms if (depth + 2) * width <= k5_neurons[norm]]
        if "K_5" in names and fast:
            frame = pd.concat([frame, run(first(network, k5_samples), ["K_5"], fast)])
        small = [norm for norm in norms if depth * width <= enumerated_neurons[norm]]
        if small:
            progress.info("%s: relaxation optimum", case)
            frame = frame.merge(optima(network, small), on=["sample", "norm"], how="left")
        frames.append(
            tidy(
                frame,
                test="test3",
                case=case,
                seed=seed,
                distribution=distribution,
                depth=depth,
                width=width,
            )
        )
    write_csv(concat(frames), table)


if "snakemake" in globals():
    run(
        main,
        snakemake.log[0],
        distribution=snakemake.wildcards.distribution,
        depth=int(snakemake.wildcards.depth),
        widths=snakemake.params.widths,
        samples=snakemake.params.samples,
        seed=snakemake.params.seed,
        seqlip_budget=snakemake.params.seqlip_budget,
        enumerated_neurons=snakemake.params.enumerated_neurons,
        k5_samples=snakemake.params.k5_samples,
        k5_neurons=snakemake.params.k5_neurons,
        names=snakemake.params.bounds,
        norms=snakemake.params.norms,
        table=snakemake.output.table,
    )
