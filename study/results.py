"""Rows and their manifests: written whole or not at all, read back as one table."""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def replacing(path):
    """A temporary path beside ``path`` that takes its name only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def unwritable(path):
    """Why no file can be written at a path, as far as the folder tells before there is a file; None if one can. Makes the folder."""
    try:
        if Path(path).is_dir():
            return "it is a folder"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=Path(path).parent).close()
    except OSError as error:
        return error.strerror
    return None


def manifest(settings, started, **facts):
    """What made a result: parameters, facts, code commit, versions, device and seconds since ``started``."""
    import torch

    return {
        "parameters": settings.model_dump(),
        **facts,
        "commit": _commit(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "device": device_name(settings),
        "seconds": round(time.time() - started, 1),
    }


def device_name(settings):
    """The GPU's name, or the CPU's architecture, as settings choose between them."""
    import torch

    on_gpu = getattr(settings, "device", "cpu") != "cpu" and torch.cuda.is_available()
    return torch.cuda.get_device_name() if on_gpu else f"CPU {platform.machine()}"


def _commit():
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def default_path(kind, settings, suffix):
    """Where a run started by hand writes: a name that says trainer and sigma, and a hash of all parameters."""
    digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:8]
    return ROOT / "data" / kind / "local" / f"{settings.trainer}-{settings.sigma}-{digest}{suffix}"


def manifest_path(path):
    """The manifest beside a file of rows or of poison."""
    return Path(path).with_suffix(".json")


def write_json(path, content):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def write_rows(path, rows, facts):
    """Write rows (CSV) and their manifest; the rows come last, so rows always have a manifest."""
    write_json(manifest_path(path), facts)
    with replacing(path) as temporary:
        rows.to_csv(temporary, index=False)


def read_rows(*paths):
    """The rows of several files in one table, with what their manifests say.

    Adds the scalar parameters of the run, ``run``, ``accuracy_all`` and ``accuracy_target`` (of the network itself, without
    noise), and of its poison ``attack`` ("none" for clean data), ``crafting_trainer``, ``crafting_architecture``, ``poison_seed``, its own parameters, such as
    ``eps_linf``, and its distances from the originals (see :func:`study.intervals.distortion`).

    Raises
    ------
    FileNotFoundError
        If a file of rows or its manifest is missing.
    """
    tables = []  # rows from before ``normalisation`` was a parameter are of centred networks
    for path in map(Path, paths):
        facts, rows = json.loads(manifest_path(path).read_text()), pd.read_csv(path)
        poison = {
            "attack": "unknown" if facts["poison"] else "none",
            "trainer": "none",
            "architecture": "none",
        } | (facts["poison"] or {})
        accuracies = (
            pd.DataFrame.from_dict(facts["accuracy"], orient="index")
            .add_prefix("accuracy_")
            .rename(index=int)
        )
        facts = {
            "normalisation": "centred",
            **poison,
            **(facts.get("distortion") or {}),
            **facts["parameters"],
            "run": path.stem,
        }
        facts |= {f"crafting_{name}": poison[name] for name in ("trainer", "architecture")} | {
            "poison_seed": poison.get("seed")
        }
        for name, options in (
            ("attack_options", poison.get("attack_options", {})),
            ("trainer_options", facts["trainer_options"]),
        ):
            facts[name] = ", ".join(f"{k} = {v}" for k, v in options.items())
        rows = rows.assign(
            **{k: v for k, v in facts.items() if k not in rows and not isinstance(v, (list, dict))}
        )
        tables.append(rows.join(accuracies, on="seed"))
    return pd.concat(tables, ignore_index=True)
