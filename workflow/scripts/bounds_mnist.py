"""Test 4: all bounds of one MNIST network in the treatments worth it, and a lower bound from
Jacobians."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lipbounds.frontends.modules import from_torch
from lipbounds.methods.run import bounds
from lipbounds.studies.cases import mnist
from lipbounds.studies.mnist_files import load
from lipbounds.studies.tidy import tidy, write_csv
from lipbounds.truth.sampling import jacobian_lower_bound

from job import progress, report, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    checkpoint: str,
    directory: Path,
    jacobians: int,
    k5_seconds: float,
    names: list[str],
    norms: list[float],
    table: str,
) -> None:
    module, metadata = mnist.load(checkpoint)
    case = f"{metadata['architecture']}_seed{metadata['seed']}"
    network = from_torch(module)
    images, _ = load(directory, train=False)
    points = images[:jacobians].unsqueeze(1).double() / 255
    lower = {}
    for norm in norms:
        progress.info("%s: lower bound in l%g from %d Jacobians", case, norm, jacobians)
        lower[norm] = jacobian_lower_bound(network, points, norm)
    options = {"K_5": {"seconds": k5_seconds}}
    frame = bounds(network, names, norms, options=options, progress=partial(report, case))
    frame = tidy(
        frame.assign(lipschitz_lower=frame["norm"].map(lower)),
        test="test4",
        case=case,
        seed=metadata["seed"],
        architecture=metadata["architecture"],
        accuracy=metadata["accuracy"],
        parameters=metadata["parameters"],
    )
    write_csv(frame, table)


if "snakemake" in globals():
    run(
        main,
        snakemake.log[0],
        checkpoint=snakemake.input.checkpoint,
        directory=Path(snakemake.input.mnist[0]).parents[2],
        jacobians=snakemake.params.jacobians,
        k5_seconds=snakemake.params.k5_seconds,
        names=snakemake.params.bounds,
        norms=snakemake.params.norms,
        table=snakemake.output.table,
    )
