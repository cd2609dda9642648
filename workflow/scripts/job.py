"""How every script of the workflow runs: what it says goes to the terminal and to its log."""

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from lipbounds.errors import LipboundsError

if TYPE_CHECKING:
    from lipbounds.results import Bound

progress = logging.getLogger("lipbounds.workflow")


def report(case: str, bound: "Bound") -> None:
    """Says that a bound is done."""
    progress.info(
        "%s: %s, l%g, %s: %.2f s", case, bound.name, bound.norm, bound.treatment, bound.seconds
    )


def run(main: Callable[..., None], log: str, **arguments) -> None:
    """Calls main(**arguments), with `progress` going to stderr and to the file `log`.

    An error that the user can mend (LipboundsError) ends the process with its message alone, any
    other with its traceback; both with exit status 1.
    """
    progress.setLevel(logging.INFO)
    for handler in (logging.StreamHandler(sys.stderr), logging.FileHandler(log, mode="w")):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        progress.addHandler(handler)
    try:
        main(**arguments)
    except LipboundsError as error:
        progress.error("error: %s", error)
        sys.exit(1)
    except Exception:
        progress.exception("error:")
        sys.exit(1)
