"""A copy of the workflow in a temporary directory, and one quick run of it for all tests."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ["Snakefile", "environment.yml", "config", "profiles", "workflow", "src"]
QUICK = ["--configfile", "config/quick.yaml"]


class Workflow:
    """The workflow in a directory of its own, with its own package."""

    def __init__(self, directory: Path):
        self.directory = directory
        for name in SOURCES:
            if (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns("*.egg-info")
                shutil.copytree(ROOT / name, directory / name, ignore=ignore)
            else:
                shutil.copy2(ROOT / name, directory / name)

    def snakemake(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess:
        """Runs Snakemake there; stdout holds what it wrote to stderr as well.

        Past the timeout it is killed with its jobs, and TimeoutExpired tells what it had said.
        """
        command = [sys.executable, "-m", "snakemake", "--cores", str(os.cpu_count()), *arguments]
        with subprocess.Popen(
            command,
            cwd=self.directory,
            env=os.environ | {"PYTHONPATH": str(self.directory / "src")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=timeout)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, process.returncode, said)

    def planned(self, *arguments: str, change: str = "") -> dict[str, int]:
        """How many jobs of each rule a run of quick.yaml would now have, but for the rule all.

        change: YAML whose values replace those of the configuration.
        """
        (self.directory / "change.yaml").write_text(change or "{}")
        said = self.snakemake(*QUICK, "change.yaml", "--dry-run", *arguments)
        assert said.returncode == 0, said.stdout
        if "Nothing to be done" in said.stdout:
            return {}
        table = said.stdout.split("Job stats:")[1].split("total")[0].splitlines()[3:]
        counts = {rule: int(count) for rule, count in (line.split() for line in table if line)}
        counts.pop("all", None)
        return counts

    @contextmanager
    def edited(self, file: str, text: str = "\n# edited\n") -> Iterator[None]:
        """Inside, the file has this text at its end; after, it is as before, its time included."""
        path = self.directory / file
        before, times = path.read_bytes(), path.stat()
        path.write_bytes(before + text.encode())
        try:
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture(scope="session")
def workflow(tmp_path_factory) -> Workflow:
    return Workflow(tmp_path_factory.mktemp("workflow"))


@pytest.fixture(scope="session")
def quick(workflow: Workflow) -> Workflow:
    """The workflow after its quick run; MNIST comes from the checkout's data, or is fetched."""
    fetched = ROOT / "data/mnist/MNIST/raw"
    if fetched.is_dir():
        shutil.copytree(fetched, workflow.directory / "data/local")
    run = workflow.snakemake(*QUICK, timeout=900)
    assert run.returncode == 0, run.stdout
    return workflow


@pytest.fixture(scope="session")
def results(quick: Workflow) -> Callable[[str], Path]:
    """The file of that name among the results of the quick run."""
    return lambda name: quick.directory / "results/quick" / name
