"""Removes the lock that a killed Snakemake left in this directory, and ends the jobs it left.

Snakemake's lock says nothing of who holds it. So: while a Snakemake runs in this directory, the
lock is its own, and this script says so and fails. Otherwise the lock is stale, and so are jobs
that still run: their outputs count as incomplete and would be made again, by two writers at once.
"""

import subprocess
import sys
from pathlib import Path

import psutil


def running(directory: Path) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The Snakemakes that work in the directory, and the jobs there, other than this process."""
    snakemakes, jobs = [], []
    for process in psutil.process_iter():
        try:
            command, place = process.cmdline(), Path(process.cwd())
        except (psutil.Error, OSError):  # it ended, or is another user's
            continue
        if place != directory:
            continue
        if any(Path(word).name == "snakemake" for word in command[:3]):
            snakemakes.append(process)
        elif any(f"{directory}/.snakemake/scripts/" in word for word in command):
            jobs.append(process)
    return snakemakes, jobs


def main(directory: Path) -> None:
    """Makes the directory ready for a new run; exits with a message if a run is going on there."""
    if not any(directory.glob(".snakemake/locks/*")):
        return
    snakemakes, jobs = running(directory)
    if snakemakes:
        pids = ", ".join(str(process.pid) for process in snakemakes)
        sys.exit(f"another Snakemake works in {directory} (process {pids}); wait until it ends")
    for job in jobs:
        print(f"ending process {job.pid}, a job of a run that was killed", file=sys.stderr)
        job.kill()
    psutil.wait_procs(jobs, timeout=10)
    subprocess.run([sys.executable, "-m", "snakemake", "--unlock"], cwd=directory, check=True)


if __name__ == "__main__":
    main(Path.cwd().resolve())
