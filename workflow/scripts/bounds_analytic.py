"""Tests 1 and 2: all bounds, and the exact Lipschitz constant, of one family at all its levels."""

from typing import TYPE_CHECKING

from lipbounds.methods.run import bounds
from lipbounds.studies.cases.analytic import CASES
from lipbounds.studies.tidy import concat, tidy, write_csv
from lipbounds.truth.pieces import exact_lipschitz

from job import progress, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(family: str, levels: list[int], names: list[str], norms: list[float], table: str) -> None:
    case = CASES[family]
    frames = []
    for level in levels:
        progress.info("%s, level %d", family, level)
        network = case.builder(level)
        frame = bounds(network, names, norms)
        exact = {norm: exact_lipschitz(network, case.box, norm) for norm in norms}
        frames.append(
            tidy(
                frame.assign(exact=frame["norm"].map(exact)),
                test=case.test,
                case=f"{family}_level{level}",
                family=family,
                level=level,
            )
        )
    write_csv(concat(frames), table)


if "snakemake" in globals():
    run(
        main,
        snakemake.log[0],
        family=snakemake.wildcards.family,
        levels=snakemake.params.levels,
        names=snakemake.params.bounds,
        norms=snakemake.params.norms,
        table=snakemake.output.table,
    )
