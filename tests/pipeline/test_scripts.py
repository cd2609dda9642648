"""What the scripts share: job.py, and unlock.py for the lock of a killed run."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lipbounds import clock
from lipbounds.errors import LipboundsError

import job
import unlock

SLEEP = "import time; time.sleep(60)"


@pytest.fixture(autouse=True)
def no_handlers_left():
    yield
    for handler in list(job.progress.handlers):
        job.progress.removeHandler(handler)
        handler.close()


def failing(error: Exception) -> None:
    raise error


def snakemake(log: Path, **params) -> SimpleNamespace:
    """What a script gets of its rule; its inputs and the like are mappings."""
    return SimpleNamespace(log=[str(log)], wildcards={}, input={}, output={}, params=params)


def test_mistake_of_the_user_is_one_line(tmp_path, capsys):
    log = tmp_path / "log"
    with pytest.raises(SystemExit) as ended:
        job.run(failing, snakemake(log, error=LipboundsError("no table x.csv")))
    assert ended.value.code == 1
    for said in (log.read_text(), capsys.readouterr().err):
        assert said.endswith("error: no table x.csv\n") and said.count("\n") == 1


def test_mistake_of_ours_has_its_traceback_in_the_log(tmp_path):
    log = tmp_path / "log"
    with pytest.raises(SystemExit) as ended:
        job.run(failing, snakemake(log, error=ZeroDivisionError("why")))
    assert ended.value.code == 1
    assert "Traceback" in log.read_text() and "ZeroDivisionError: why" in log.read_text()


def test_main_gets_what_it_names(tmp_path):
    got = []

    def main(a: int, b: str, c: list, d: str = "default") -> None:
        got.extend([a, b, c, d])

    rule = snakemake(tmp_path / "log", a=1, other=2)
    rule.wildcards, rule.input, rule.output = {"a": "1", "b": "x"}, {"c": [3]}, {"table": "t"}
    job.run(main, rule)
    assert got == [1, "x", [3], "default"]


def test_limits_of_jobs_are_of_processor_time(tmp_path):
    """While another process has the processor, no time passes."""
    passed = []

    def main() -> None:
        with clock.limited(10):
            before = clock.left()
            time.sleep(0.2)
            passed.append(before - clock.left())

    job.run(main, snakemake(tmp_path / "log"))
    assert passed[0] < 0.1


def start(directory: Path, name: str) -> subprocess.Popen:
    """A process in that directory, with a command line as if it ran the file of that name."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SLEEP)
    process = subprocess.Popen([sys.executable, str(path)], cwd=directory)
    while not unlock.psutil.Process(process.pid).cmdline():  # not yet begun
        time.sleep(0.01)
    return process


@pytest.fixture
def locked(tmp_path) -> Path:
    """A workflow whose Snakemake was killed."""
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.output.lock").write_text("a.txt\n")
    (tmp_path / "Snakefile").write_text("rule all:\n    input: 'Snakefile'\n")
    return tmp_path


def test_stale_lock_is_removed(locked):
    unlock.main(locked)
    assert not list(locked.glob(".snakemake/locks/*"))


def test_job_of_a_killed_run_is_ended(locked):
    orphan = start(locked, ".snakemake/scripts/tmp1.train.py")
    unlock.main(locked)
    assert not unlock.psutil.pid_exists(orphan.pid)
    assert not list(locked.glob(".snakemake/locks/*"))


def test_lock_of_a_running_snakemake_stays(locked):
    running = start(locked, "bin/snakemake")
    try:
        with pytest.raises(SystemExit, match=f"process {running.pid}"):
            unlock.main(locked)
    finally:
        running.kill()
        running.wait()
    assert list(locked.glob(".snakemake/locks/*"))


def test_without_a_lock_nothing_is_done(tmp_path):
    running = start(tmp_path, "bin/snakemake")
    unlock.main(tmp_path)
    assert running.poll() is None
    running.kill()
    running.wait()
