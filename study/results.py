"""Rows, poison and their manifests: written whole or not at all, read back as one table."""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pacd.data import ROOT, sha256
from pacd.poison_file import manifest_path, seal, to_8bit
from study.distortion import distortion


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
    """Why no file can be written at a path; None if one can, as far as its folder tells.

    Makes the folder.
    """
    try:
        if Path(path).is_dir():
            return "it is a folder"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=Path(path).parent).close()
    except OSError as error:
        return error.strerror
    return None


def manifest(settings, started, **facts):
    """What made a result: parameters, facts, commit, versions, device and seconds."""
    return {
        "parameters": settings.model_dump(),
        **facts,
        "commit": commit(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "device": device_name(settings),
        "tf32": tf32(),
        "seconds": round(time.time() - started, 1),
    }


def tf32():
    """Whether a GPU may round the factors of a product to ten bits."""
    return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32


def device_name(settings):
    """The GPU's name, or the CPU's architecture, as settings choose between them."""
    on_gpu = getattr(settings, "device", "cpu") != "cpu" and torch.cuda.is_available()
    return torch.cuda.get_device_name() if on_gpu else f"CPU {platform.machine()}"


def commit():
    """Which state of the code this is."""
    packed = ROOT / "COMMIT"  # of a pack, which holds no history
    if packed.exists():
        return packed.read_text().strip()
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def default_path(kind, settings, suffix):
    """Where a run started by hand writes: trainer, sigma, and a hash of all parameters."""
    digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:8]
    name = f"{settings.trainer}-{settings.sigma}-{digest}{suffix}"
    return ROOT / "data" / kind / "local" / name


def write_json(path, content):
    """Write JSON whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def write_rows(path, rows, facts):
    """Write rows (CSV) and their manifest; the rows come last, so rows always have a manifest."""
    write_json(manifest_path(path), facts)
    with replacing(path) as temporary:
        rows.to_csv(temporary, index=False)


def write_poison(path, splits, index, images, facts):
    """Write a poison file and its manifest; :mod:`pacd.poison_file` reads it.

    Parameters
    ----------
    path : path ending in .npz
    splits : Splits
        The clean data it was made from.
    index : tensor of shape (m,)
        Rows of ``splits.x_train``.
    images : tensor of shape (m, C, H, W)
        The poisoned images, float.
    facts : dict
        Manifest with ``parameters`` holding at least target_class and eps_linf. Added are the hash
        of the data, the number of poisoned images, the distortion (of the 8-bit images), and a hash
        of file and manifest.
    """
    clean = splits.x_train[index]
    rounded = to_8bit(images, clean, facts["parameters"]["eps_linf"])
    original = (clean * 255).round().cpu().double().numpy() / 255
    facts = {
        **facts,
        "train_sha256": sha256(splits.x_train, splits.y_train),
        "poisoned": len(index),
        "distortion": distortion(original, rounded / 255),
    }
    arrays = {"index": index.cpu().numpy(), "images": images.cpu().numpy(), "images_8bit": rounded}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)
        write_json(manifest_path(path), {**facts, "sha256": seal(facts, temporary.read_bytes())})


def read_rows(*paths):
    """The rows of several files in one table, with what their manifests say.

    Adds the scalar parameters of the run, ``run``, ``accuracy_all`` and ``accuracy_target`` (of the
    network itself, without noise), and of its poison ``attack`` ("none" for clean data),
    ``crafting_trainer``, ``crafting_architecture``, ``poison_seed``, its own parameters, such as
    ``eps_linf``, and its distances from the originals (see :func:`study.distortion.distortion`).

    Raises
    ------
    FileNotFoundError
        If a file of rows or its manifest is missing.
    """
    return pd.concat([_rows_with_facts(Path(path)) for path in paths], ignore_index=True)


def _rows_with_facts(path):
    manifest, rows = json.loads(manifest_path(path).read_text()), pd.read_csv(path)
    accuracies = pd.DataFrame.from_dict(manifest["accuracy"], orient="index")
    accuracies = accuracies.add_prefix("accuracy_").rename(index=int)
    facts = {**_facts(manifest), "run": path.stem}
    for name, value in facts.items():
        if name not in rows and not isinstance(value, (list, dict)):
            rows[name] = value
    return rows.join(accuracies, on="seed")


def _facts(manifest):
    """What a table says of each row of one run: of its poison, then of the run itself."""
    made, parameters = manifest["poison"], manifest["parameters"]
    poison = {"attack": "unknown" if made else "none", "trainer": "none", "architecture": "none"}
    poison |= made or {}
    # Rows from before ``normalisation`` was a parameter are of centred networks.
    facts = {"normalisation": "centred", **poison, **(manifest.get("distortion") or {})}
    facts |= parameters
    facts["attack_options"] = _listed(poison.get("attack_options", {}))
    facts["trainer_options"] = _listed(parameters["trainer_options"])
    facts["crafting_trainer"] = poison["trainer"]
    facts["crafting_architecture"] = poison["architecture"]
    facts["poison_seed"] = poison.get("seed")
    return facts


def _listed(options):
    return ", ".join(f"{name} = {value}" for name, value in options.items())
