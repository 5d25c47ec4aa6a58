"""Where a long computation is, on disk: a killed run carries on there, to the same end.

On a CPU that is to the same bits; a GPU's sums need not repeat, with or without a kill.
"""

import hashlib
import json
import math
import time
import warnings
from contextlib import suppress
from pathlib import Path

import torch

from pacd.data import ROOT
from study import named
from study.results import device_name, replacing

FOLDER = ROOT / "data" / "checkpoints"


class Checkpoint:
    """One file that holds the state of one computation.

    ``resume`` before its loop, ``keep`` in it, ``remove`` when the result is on disk.

    Parameters
    ----------
    path : path
    every : float
        Seconds from one state to the next; a shorter computation leaves no file.
    """

    def __init__(self, path, every=60.0):
        self.path, self.every = Path(path), every
        self.started = self.kept = None
        self.seconds = 0.0  # that the pieces before a kill took, as far as they were kept

    def resume(self, parts, progress):
        """Put ``parts`` into the state that was kept, if there is one.

        Parameters
        ----------
        parts : sequence
            Modules, optimizers, schedulers, generators, tensors, or objects whose attributes are
            all their state; changed in place.
        progress : list
            What to start from without a file.

        Returns
        -------
        list
            The progress kept with the parts, else ``progress``.
        """
        self.started = self.kept = time.monotonic()
        if not self.path.exists():
            return progress
        try:
            saved = torch.load(self.path)
        except Exception:  # a damaged file: torch has many errors for it
            return progress
        for part, state in zip(parts, saved["parts"], strict=True):
            _set_state(part, state)
        self.seconds = saved["seconds"]
        return saved["progress"]

    def keep(self, parts, progress, last=False):
        """Replace the file by the state of now, unless it is younger than ``every`` seconds.

        The ``last`` state is kept whenever it took that long to get there. Where none can be kept,
        one warning says so, and none is tried again.
        """
        now = time.monotonic()
        if now - (self.started if last else self.kept) < self.every:
            return
        spent = self.seconds + now - self.started
        states = [_state(part) for part in parts]
        self.kept = now
        try:
            with replacing(self.path) as temporary:
                torch.save({"parts": states, "progress": progress, "seconds": spent}, temporary)
        except (OSError, RuntimeError) as error:  # torch raises the latter on a full disk
            lost = "a killed run would begin anew"
            warnings.warn(f"no state can be kept at {self.path} ({error}): {lost}", stacklevel=2)
            self.every = math.inf

    def remove(self):
        """Delete the file, if there is one; one that cannot be deleted is found by no other run."""
        with suppress(OSError):
            self.path.unlink()


def checkpoint(settings, *data):
    """The checkpoint of a run: its file is named by everything that its result depends on.

    Parameters
    ----------
    settings : pydantic.BaseModel
    data : torch.Tensor, torch.nn.Module, int or str
        What else tells the computation from others: its images and labels, a seed, the trained
        network that is certified.

    Returns
    -------
    Checkpoint
        In ``data/checkpoints``; other settings, data, method, torch or device never meet it. The
        names of files are left out, as the data themselves say what was read, and a result may be
        written elsewhere.
    """
    chosen = settings.model_dump(exclude={"rows_file", "poison_file", "data_root"})
    run = [type(settings).__name__, chosen, [_digest(part) for part in data]]
    run += [method_hash(), torch.__version__, device_name(settings)]
    if brought := named.hashes(chosen):
        run.append(brought)
    name = hashlib.sha256(json.dumps(run).encode()).hexdigest()[:16]
    return Checkpoint(FOLDER / f"{name}.pt")


def method_hash():
    """Hash of all that a result depends on beside its settings and data: the package ``pacd``."""
    sources = (path.read_bytes() for path in sorted((ROOT / "pacd").glob("*.py")))
    return hashlib.sha256(b"".join(sources)).hexdigest()


def _digest(part):
    if isinstance(part, torch.nn.Module):
        return [_digest(tensor) for tensor in part.state_dict().values()]
    if isinstance(part, torch.Tensor):
        return hashlib.sha256(part.cpu().numpy().tobytes()).hexdigest()
    return part


def _state(part):
    if isinstance(part, torch.Tensor):
        return part
    if isinstance(part, torch.Generator):
        return part.get_state()
    return part.state_dict() if hasattr(part, "load_state_dict") else vars(part)


def _set_state(part, state):
    if isinstance(part, torch.Tensor):
        part.copy_(state)
    elif isinstance(part, torch.Generator):
        part.set_state(state)
    elif hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    else:
        vars(part).update(state)
