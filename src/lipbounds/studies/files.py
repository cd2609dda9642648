"""All-or-nothing writing: a file appears under its name only when whole and on the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A new file beside ``path`` that takes its place only if the block ends well.

    The block makes the file; the directory is made for it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(text: str, path: Path | str) -> None:
    """Write a text file in UTF-8, all or nothing."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(content: bytes, path: Path | str) -> None:
    """Write a binary file, all or nothing."""
    with replacing(path) as part:
        part.write_bytes(content)
