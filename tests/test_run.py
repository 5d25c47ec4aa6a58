"""One run at a time in a folder, however the first one ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pacd.data import ROOT

START = "import sys; from pathlib import Path; from study import run; run.LOCK = Path(sys.argv[1]);"
START += "sys.exit(run.main(['study', '--profile', 'smoke', '--experiment', 'headline']))"
# A stand-in that says what it was asked, and goes on like a long run.
SNAKEMAKE = '#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *--unlock*) ;; *) exec sleep 60 ;; esac\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "snakemake"
    script.write_text(SNAKEMAKE.format(log=tmp_path / "asked"))
    script.chmod(0o755)
    return tmp_path


def start(folder):
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-c", START, folder / "state" / "running"],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(run):
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


def asked(folder):
    log = folder / "asked"
    return log.read_text().splitlines() if log.exists() else []


def until(condition, seconds=60):
    for _ in range(10 * seconds):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError


def test_a_second_run_says_who_runs_and_leaves_it_alone(folder):
    first = start(folder)
    until(lambda: asked(folder))
    second = start(folder)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 1 and len(said.splitlines()) == 1
    assert said.startswith("one run at a time in a folder: 'study profile=smoke experiment=headli")
    assert f"process {first.pid} on " in said
    assert first.poll() is None and len(asked(folder)) == 1  # nothing was asked
    kill(first)
    third = start(folder)
    until(lambda: len(asked(folder)) == 2)  # the lock died with its processes
    kill(third)
    assert asked(folder)[0] == asked(folder)[1]
    assert "study --config profile=smoke experiment=headline --cores all" in asked(folder)[0]
    assert "--keep-going --rerun-incomplete" in asked(folder)[0]


def test_a_lock_that_a_killed_run_left_is_taken_away(folder):
    (folder / "state" / "locks").mkdir(parents=True)
    (folder / "state" / "locks" / "0.output.lock").touch()
    run = start(folder)
    until(lambda: len(asked(folder)) == 2)
    kill(run)
    assert [line.endswith("--unlock") for line in asked(folder)] == [True, False]


def test_a_folder_that_cannot_be_written_is_one_sentence(folder):
    (folder / "state").write_text("no folder")
    done = start(folder)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 1 and len(said.splitlines()) == 1 and "state" in said
    assert not asked(folder)
