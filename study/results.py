"""Rows, poison and their manifests: written whole or not at all."""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch

from pacd.data import ROOT, sha256
from pacd.poison_file import manifest_path, seal, to_8bit
from study import named
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
    """What made a result: parameters, facts, commit, versions, device and seconds.

    Where a function was brought, also the hash of its file.
    """
    parameters = settings.model_dump()
    brought = named.hashes(parameters)
    return {
        "parameters": parameters,
        **facts,
        **({"brought": brought} if brought else {}),
        "commit": started_from(),
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


@cache
def started_from():
    """The state of the code at the first call: a long run outlives the next commit."""
    return commit()


def default_folder(kind):
    """Where results of a kind go that were started by hand: ``poison``, or ``rows``."""
    return ROOT / "data" / {"rows": "results"}.get(kind, kind) / "local"


def default_path(kind, settings, suffix):
    """Where a run started by hand writes: trainer or network, sigma, a hash of all parameters."""
    digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:8]
    first = getattr(settings, "trainer", settings.architecture).replace(":", "_")
    return default_folder(kind) / f"{first}-{settings.sigma}-{digest}{suffix}"


def write_json(path, content):
    """Write JSON whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def write_rows(path, rows, facts):
    """Write rows (CSV) and their manifest, with a hash of both that binds them.

    The rows come last, so rows always have a manifest; :mod:`study.rows` reads them.
    """
    with replacing(path) as temporary:
        rows.to_csv(temporary, index=False)
        write_json(manifest_path(path), {**facts, "sha256": seal(facts, temporary.read_bytes())})


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
