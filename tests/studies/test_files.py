"""A file that is written is there whole, or not at all."""

import os

import pytest

from lipbounds.studies.files import replacing, write_bytes, write_text


def test_files_hold_what_was_written(tmp_path):
    write_text("K ≤ ∞\n", tmp_path / "new" / "text")
    write_bytes(b"\x00\xff\n", str(tmp_path / "new" / "bytes"))
    assert (tmp_path / "new" / "text").read_bytes() == "K ≤ ∞\n".encode()
    assert (tmp_path / "new" / "bytes").read_bytes() == b"\x00\xff\n"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "notes.md"
    write_text("old", path)
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_no_file(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(b"content", tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []
