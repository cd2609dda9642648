"""Test 4: all bounds of one MNIST network in the treatments worth it, and a lower bound from
Jacobians."""

from functools import partial
from typing import TYPE_CHECKING

from lipbounds.frontends.modules import from_torch
from lipbounds.methods.run import bounds as table_of
from lipbounds.studies.cases import mnist
from lipbounds.studies.mnist_files import load
from lipbounds.studies.tidy import tidy, write_csv
from lipbounds.truth.sampling import jacobian_lower_bound

from job import progress, report, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    checkpoint: str,
    directory: str,
    jacobians: int,
    bounds: list[str],
    norms: list[float],
    options: dict[str, dict],
    table: str,
) -> None:
    """directory: of MNIST. options: of single bounds, by their names."""
    module, metadata = mnist.load(checkpoint)
    case = f"{metadata['architecture']}_seed{metadata['seed']}"
    network = from_torch(module, mnist.SHAPE)
    images, _ = load(directory, train=False)
    points = images[:jacobians].unsqueeze(1).double() / 255
    lower = {}
    for norm in norms:
        progress.info("%s: lower bound in l%g from %d Jacobians", case, norm, jacobians)
        lower[norm] = jacobian_lower_bound(network, points, norm)
    frame = table_of(network, bounds, norms, options=options, progress=partial(report, case))
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
    run(main, snakemake)
