"""Run a profile: ``python -m study.run study --profile smoke``, which is what ``make`` calls.

One run at a time in a folder: a second one would take Snakemake's lock from the first. Rows of a
kept profile are moved into its tables at the end, as many as there are.
"""

import argparse
import fcntl
import os
import platform
import signal
import subprocess
import sys
from datetime import datetime

from pacd.data import ROOT
from study import grid
from study.keep import keep
from study.parameters import SettingsError
from study.warm import kernels

LOCK = ROOT / ".snakemake" / "running"
QUIETLY = ("--quiet", "rules", "reason", "host")


def held(path, command):
    """A file of its own for this process: locked until it, and Snakemake, are dead.

    Raises
    ------
    SettingsError
        If another process holds it, with what that one wrote of itself.
    """
    path.parent.mkdir(exist_ok=True)
    file = open(path, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise SettingsError(f"one run at a time in a folder: {file.read()} is going on.") from None
    file.truncate(0)
    since = f"{datetime.now():%d %B, %H:%M}"
    file.write(f"{command!r}, process {os.getpid()} on {platform.node()} since {since},")
    file.flush()
    os.set_inheritable(file.fileno(), True)
    return file


def main(arguments=None):
    """The command line; Snakemake's exit status, or the sentence that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m study.run", description="Run a profile.")
    parser.add_argument("target", choices=("study", "book"))
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--experiment", default="", help="one of the profile's; all if empty")
    parser.add_argument("--cores", default="all")
    chosen = parser.parse_args(arguments)
    try:
        grid.load(chosen.profile).missing(chosen.experiment or None)
        config = [f"profile={chosen.profile}"]
        config += [f"experiment={chosen.experiment}"] * bool(chosen.experiment)
        lock = held(LOCK, " ".join([chosen.target, *config]))
    except (SettingsError, OSError) as error:
        return str(error)
    command = ["snakemake", chosen.target, "--config", *config, "--cores", chosen.cores]
    if any((LOCK.parent / "locks").glob("*")):  # of a killed run
        unlock = [*command, *QUIETLY, "--unlock"]
        done = subprocess.run(unlock, pass_fds=[lock.fileno()], capture_output=True, text=True)
        if done.returncode:
            return f"{done.stderr}\nSnakemake's own lock could not be taken away."
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl+C is Snakemake's; this waits for it
    options = ["--keep-going", "--rerun-incomplete", "--logger", "rich"]  # one bar on a terminal
    with kernels() as environment:
        run = [*command, *options]
        made = subprocess.run(run, pass_fds=[lock.fileno()], env=environment).returncode
    try:
        keep(chosen.profile)
    except ValueError as error:
        return str(error)
    return made


if __name__ == "__main__":
    sys.exit(main())
