"""Every method beside the truth: one table of upper bounds, lower bound, exact constant and D*."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import pandas as pd
from torch import Tensor

from .arguments import check_network, check_progress, check_seconds, checked_list
from .errors import LipboundsError
from .linear.norms import NORMS, checked_norm
from .methods.registry import BOUNDS, Method, registered
from .methods.run import bound
from .networks.network import Network
from .networks.rewrite import distinct_treatments
from .results import Bound
from .truth.run import exact, lower_bound, relaxation_optimum


def compare(
    network: Network,
    names: Iterable[str] | None = None,
    norms: Iterable[float] = NORMS,
    seconds: float = 60.0,
    points: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[dict], None] | None = None,
) -> pd.DataFrame:
    """All methods on one network, whatever becomes of each: one row per norm, treatment and bound.

    names: keys of BOUNDS, by default all but "best"; the relaxation optimum ("D_star") and, in l1
    and l-infinity, the exact constant ("exact") join them, both upper bounds by their upper ends.
    seconds: limit of each method, for each norm. points, seed: of `lower_bound`.
    progress: called with each row.

    Columns: treatment, norm, bound, value, lower (the method's own lower end), seconds (of CPU
    time), reason (why there is no value, or the limit that stopped the method; else empty), and,
    the same in all rows of a norm, lipschitz_lower, exact and relaxation_optimum (NaN where their
    ends do not meet).
    Raises LipboundsError for an ensemble, UnsupportedError for an unknown name or norm.
    """
    check_network(network, "compare")
    check_seconds(seconds, "compare")
    check_progress(progress, "compare")
    if network.batch_shape:
        raise LipboundsError("compare takes one network, not an ensemble")
    names = [name for name in BOUNDS if name != "best"] if names is None else names
    methods = {name: registered(name) for name in checked_list(names, "names", "compare")}
    norms = [checked_norm(norm) for norm in checked_list(norms, "norms", "compare")]
    if not norms:
        raise LipboundsError("no norms requested")
    frames = []
    for norm in norms:
        lower = lower_bound(network, norm, seed, points, seconds=seconds).lower
        optimum = _row(_optimum(network, norm, seconds), norm, progress)
        jobs = _jobs(network, methods, norm, seconds, optimum["value"])
        rows = [optimum, *(_row(job, norm, progress) for job in jobs)]
        frames.append(_with_truth(pd.DataFrame(rows), lower))
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class _Job:
    """One bound to be computed."""

    name: str
    treatment: str
    run: Callable[[], Bound]


def _optimum(network: Network, norm: float, seconds: float) -> _Job:
    run = partial(relaxation_optimum, network, norm, seconds)
    return _Job("D_star", "explicit", run)


def _jobs(
    network: Network, methods: Mapping[str, Method], norm: float, seconds: float, optimum: float
) -> Iterator[_Job]:
    """All jobs but D*, whose upper end, NaN if there is none, caps the exact constant."""
    if norm != 2:
        cap = math.inf if math.isnan(optimum) else optimum
        run = partial(exact, network, norm, seconds=seconds, cap=cap)
        yield _Job("exact", "explicit", run)
    for treatment, (name, one) in product(distinct_treatments(network), methods.items()):
        if norm in one.norms and treatment in one.worth(network):
            run = partial(bound, network, name, norm, treatment, seconds=seconds)
            yield _Job(name, treatment, run)


def _row(job: _Job, norm: float, progress: Callable[[dict], None] | None) -> dict:
    value = lower = math.nan
    start = time.process_time()
    try:
        result = job.run()
    except LipboundsError as error:
        reason = str(error)
    else:
        value, lower = result.upper, math.nan if result.lower is None else result.lower
        reason = result.reason
    row = {
        "treatment": job.treatment,
        "norm": norm,
        "bound": job.name,
        "value": value,
        "lower": lower,
        "seconds": time.process_time() - start,
        "reason": reason,
    }
    if progress is not None:
        progress(row)
    return row


def _with_truth(rows: pd.DataFrame, lower: float) -> pd.DataFrame:
    """With the columns lipschitz_lower, exact and relaxation_optimum."""
    truth = {}
    for column, name in (("exact", "exact"), ("relaxation_optimum", "D_star")):
        for row in rows[rows["bound"] == name].itertuples():
            if name == "exact":
                lower = max(lower, row.lower if row.lower > 0 else 0.0)
            truth[column] = math.nan if row.reason else row.value  # NaN itself where refused
    return rows.assign(
        lipschitz_lower=lower,
        exact=truth.get("exact", math.nan),
        relaxation_optimum=truth["relaxation_optimum"],
    )
