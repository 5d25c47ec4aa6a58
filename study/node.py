"""On a node without a network: the missing runs of a profile, until the time is over.

``run.sh`` of a pack (see :mod:`study.pack`) starts it. The runs that stand first in the profile go
first, several at a time on the one GPU. At any moment the folder OUT holds what is done:
``rows.tar.gz`` with all finished rows and their manifests, and an archive for each poison.
"""

import argparse
import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pacd.data import ROOT, TORCHVISION
from study import grid
from study.pack import write
from study.parameters import SettingsError
from study.results import replacing
from study.scans import expand
from study.unpack import UnpackError, contents, unpack

# Seconds before the end: to stop what runs, and to write the last archives.
MARGIN = 10
# Runs at a time, one core each; more than these find no room on one GPU.
AT_ONCE = 8
DOWNLOADS = ROOT / "data" / "downloads"
SCANS = "-scans.npz"


def unfold(downloads):
    """Make of the data sets what their readers expect: torchvision reads no gzipped files."""
    for packed in downloads.rglob("*.gz"):
        with replacing(packed.with_suffix("")) as temporary:
            temporary.write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    for scans in downloads.glob(f"*{SCANS}"):
        expand(scans, scans.with_name(scans.name.replace(SCANS, ".npz")))
        scans.unlink()


def there(dataset, downloads):
    """Whether a run finds its images without a network."""
    if dataset in TORCHVISION:
        return (downloads / TORCHVISION[dataset]).exists()
    made = dataset == "data/downloads/coloured_digits.npz"
    return dataset == "mnist5k" or made or (ROOT / dataset).exists()


def chosen(plan, downloads):
    """The missing runs that find their data, in the order of the profile, and how many do not."""
    missing = plan.missing()
    every = plan.runs
    runs = [run for run in missing if there(every[run].get("dataset", "mnist5k"), downloads)]
    return runs, len(missing) - len(runs)


def finished(files):
    """Whether all files of a run are there; each comes whole or not at all, its result last."""
    return all((ROOT / place).exists() for place in files)


class Archives:
    """What is done, in a folder: ``rows.tar.gz``, and ``RUN.tar.gz`` for each poison.

    What an earlier call has left in that folder, and :func:`work` has filed, is kept.
    """

    def __init__(self, plan, runs, out):
        self.out, self.done = out, set()
        before = out / "rows.tar.gz"
        known = contents(before) if before.exists() else {}
        runs = [run for run in plan.runs if run in runs or plan.files(run)[-1] in known]
        self.rows = {run: plan.files(run) for run in runs}
        poisons = {run: plan.files(run) for run in plan.poisons}
        # Those that were carried are where they came from.
        self.poisons = {run: files for run, files in poisons.items() if not finished(files)}

    def keep(self):
        """Write what is new; each archive is whole or as it was before."""
        done = {run for run, files in self.rows.items() if finished(files)}
        if done != self.done:
            self._write("rows", [place for run in done for place in self.rows[run]])
            self.done = done
        for run in [run for run, files in self.poisons.items() if finished(files)]:
            self._write(run, self.poisons.pop(run))

    def _write(self, name, places):
        with replacing(self.out / f"{name}.tar.gz") as temporary:
            write(temporary, {place: ROOT / place for place in sorted(places)})


def command(plan, runs, seconds, jobs):
    """Snakemake on the runs. ``timeout`` ends it and its jobs even if nobody is left to do so."""
    ending = ["timeout", "--kill-after=3", str(seconds)]
    engine = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    how = ["--cores", str(jobs), "--scheduler", "greedy", "--keep-going", "--rerun-incomplete"]
    how += ["--nolock", "--quiet", "rules", "host", "--config", f"profile={plan.profile}"]
    return [*ending, *engine, *how, "--", *(plan.runs[run]["rows_file"] for run in runs)]


def stop(process):
    """End the engine and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def work(profile, end, out, jobs):
    """Do the runs of a profile until ``end`` (seconds since 1970); how many are done and left."""
    plan = grid.load(profile)
    unfold(DOWNLOADS)
    for before in out.glob("*.tar.gz"):
        unpack(before, profile)
    runs, without = chosen(plan, DOWNLOADS)
    print(f"{len(runs)} runs to make, {without} without their data", flush=True)
    archives = Archives(plan, runs, out)
    left = int(end - time.time()) - MARGIN
    if left <= 0 or not runs:
        return 0, len(runs)
    with (out / "log.txt").open("a") as log:
        line = command(plan, runs, left, jobs)
        process = subprocess.Popen(
            line, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while process.poll() is None:
                archives.keep()
                time.sleep(0.5)
        finally:
            stop(process)
            archives.keep()
    done = len(archives.done.intersection(runs))
    return done, len(runs) - done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile")
    parser.add_argument("end", type=float, help="seconds since 1970")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    jobs = int(os.environ.get("JOBS") or min(AT_ONCE, os.cpu_count()))
    try:
        done, left = work(options.profile, options.end, options.out, jobs)
    except (SettingsError, UnpackError) as error:
        sys.exit(str(error))
    print(f"{done} runs done, {left} left: {options.out / 'rows.tar.gz'}")


if __name__ == "__main__":
    main()
