"""Tests 1 and 2: all bounds, and the exact Lipschitz constant, of one family at all its levels."""

from functools import partial
from typing import TYPE_CHECKING

from lipbounds.methods.run import bounds as table_of
from lipbounds.studies.cases.analytic import CASES
from lipbounds.studies.tidy import concat, tidy, write_csv
from lipbounds.truth.pieces import exact_lipschitz

from job import report, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    family: str,
    levels: list[int],
    options: dict[str, dict],
    bounds: list[str],
    norms: list[float],
    table: str,
) -> None:
    case = CASES[family]
    frames = []
    for level in levels:
        name = f"{family}_level{level}"
        network = case.builder(level)
        told = partial(report, name)
        frame = table_of(network, bounds, norms, options=options, progress=told)
        exact = {norm: exact_lipschitz(network, case.box, norm) for norm in norms}
        frames.append(
            tidy(
                frame.assign(exact=frame["norm"].map(exact)),
                test=case.test,
                case=name,
                family=family,
                level=level,
            )
        )
    write_csv(concat(frames), table)


if "snakemake" in globals():
    run(main, snakemake)
