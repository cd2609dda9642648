"""A limit of the memory that the process may take, on Linux."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import LipboundsError, OutOfMemory, out_of_memory

STATUS = Path("/proc/self/status")
LARGEST = 2**23  # GiB, beyond which a limit is none


@contextmanager
def memory_limited(gib: float | None) -> Iterator[None]:
    """Within it the process can take `gib` GiB more than it has; no limit for None or infinity.

    Raises LipboundsError where the system has no such limit.
    """
    if gib is None or gib >= LARGEST:
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


@contextmanager
def refusals_named() -> Iterator[None]:
    """An allocation that the system refuses, in whatever library, raises OutOfMemory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory("takes more memory than there is") from None
