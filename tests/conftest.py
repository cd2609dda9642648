"""How tests are shared out among processes (`pytest -n`), and how long they search."""

import pytest
from xdist.scheduler import LoadFileScheduling


class _ByFile(LoadFileScheduling):
    """A file at a time, so that its fixtures are made once; the workflow's files are one, as they
    share its quick run."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = file.rpartition("/")[0]
        return folder if folder.endswith("pipeline") else file


def pytest_xdist_make_scheduler(config, log):
    return _ByFile(config, log)


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    """Tiny networks need little search for a lower bound."""
    for name, value in {"CHAINS": 32, "PATIENCE": 2, "WALK": 12, "POOL": 4}.items():
        monkeypatch.setattr(f"lipbounds.truth.lower.{name}", value)
    monkeypatch.setattr("lipbounds.truth.ascent.STEPS", 20)
    monkeypatch.setattr("lipbounds.truth.matrix_free.ROUNDS", 8)
