"""A limit of the memory that the process may take, on Linux."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import LipboundsError

STATUS = Path("/proc/self/status")
REFUSED = re.compile(r"can't allocate memory|Unable to allocate|bad_alloc|out of memory", re.I)


@contextmanager
def memory_limited(gib: float | None) -> Iterator[None]:
    """Within it the process can take `gib` GiB more than it has; no limit for None.

    Raises LipboundsError where the system has no such limit.
    """
    if gib is None:
        yield
        return
    if not STATUS.exists():
        raise LipboundsError("a limit of memory needs Linux; leave --memory out")
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    held = re.search(r"VmData:\s+(\d+) kB", STATUS.read_text())
    limit = 1024 * int(held[1]) + int(gib * 2**30)
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def is_refused(error: BaseException) -> bool:
    """Whether it says that there was no memory left, in whatever library."""
    return isinstance(error, MemoryError) or REFUSED.search(str(error)) is not None
