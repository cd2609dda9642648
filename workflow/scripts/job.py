"""How every script of the workflow runs: its arguments, its limits, and what it says."""

import inspect
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from lipbounds.clock import processor_time
from lipbounds.errors import LipboundsError

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    from lipbounds.results import Bound

progress = logging.getLogger("lipbounds.workflow")


def report(case: str, bound: "Bound") -> None:
    """Says that a bound is done."""
    progress.info(
        "%s: %s, l%g, %s: %.2f s", case, bound.name, bound.norm, bound.treatment, bound.seconds
    )


def run(main: Callable[..., None], snakemake: "Snakemake") -> None:
    """Calls `main` with what the rule has under the names of its arguments, and `progress` going to
    stderr and to the rule's log.

    All limits of seconds are of processor time, so that what a job finds does not depend on what
    else the machine does; jobs are single-threaded. An error that the user can mend
    (LipboundsError) ends the process with its message alone, any other with its traceback; both
    with exit status 1.
    """
    progress.setLevel(logging.INFO)
    for handler in (logging.StreamHandler(sys.stderr), logging.FileHandler(snakemake.log[0], "w")):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        progress.addHandler(handler)
    try:
        with processor_time():
            main(**arguments(main, snakemake))
    except LipboundsError as error:
        progress.error("error: %s", error)
        sys.exit(1)
    except Exception:
        progress.exception("error:")
        sys.exit(1)


def arguments(main: Callable[..., None], snakemake: "Snakemake") -> dict:
    """The wildcards, inputs, outputs and params (of equal names the last) that `main` names."""
    parts = (snakemake.wildcards, snakemake.input, snakemake.output, snakemake.params)
    named = {name: value for part in parts for name, value in part.items()}
    return {name: named[name] for name in inspect.signature(main).parameters if name in named}
