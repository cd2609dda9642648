"""Test 3: all bounds of the random networks of one distribution and depth, at all widths."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from lipbounds.linear.operators import dense
from lipbounds.methods.registry import registered
from lipbounds.methods.run import bounds as table_of
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


def within(
    limits: Mapping[str, Mapping], network: Network, bounds: list[str], norms: list[float]
) -> Iterator[tuple[Network, str, list[float]]]:
    """What to compute: the samples, the bound, and its norms, as far as its limits go."""
    (samples,) = network.batch_shape
    neurons = network.input_size + sum(affine.operator.shape[0] for affine in network.affines)
    for bound in bounds:
        limit = limits.get(bound, {})
        most = limit.get("neurons", {})
        of = [p for p in norms if p in registered(bound).norms and neurons <= most.get(p, math.inf)]
        if of:
            yield first(network, limit.get("samples", samples)), bound, of


def main(
    distribution: str,
    depth: int,
    widths: list[int],
    samples: int,
    seed: int,
    enumerated_neurons: dict[float, int],
    bounds: list[str],
    norms: list[float],
    options: dict[str, dict],
    limits: dict[str, dict],
    table: str,
) -> None:
    """options: of single bounds, by their names. limits: the `samples` and the `neurons`, by norm,
    up to which a bound is computed; neurons include inputs and outputs, but for D*'s."""
    frames = []
    for width in widths:
        case = f"{distribution}_depth{depth}_width{width}"
        network = ensemble(distribution, width, depth, samples, seed)
        one = partial(table_of, options=options, progress=partial(report, case))
        parts = [
            one(some, [bound], of) for some, bound, of in within(limits, network, bounds, norms)
        ]
        frame = pd.concat(parts)
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
    run(main, snakemake)
