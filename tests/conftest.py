"""How tests are shared out among processes (`pytest -n`)."""

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
