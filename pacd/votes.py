"""Votes of a network under noise, fast: the speed tricks of the certifier, and nothing else.

In float32 a vote can differ from the plain forward's only where the two largest logits agree to
rounding. With a quick network beside it, what votes is the pair of them, one function of the image.
"""

import copy
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pacd.models import split_affine

# Noise draws made at a time, whatever the batch, so that the same seed gives the same draws.
DRAWS = 1000
# Images in one forward pass, and how many draws of them, for several points: on a CPU, as many as
# its cache holds. (LeNet on two cores: twice as many cost a third; integers take less room.)
BATCH = {"cpu": (500, 100), "quick": (2000, 100), "cuda": (20_000, DRAWS)}
# Noisy images on which a network is tried first, and those of them that it gets alone.
PROBES, FEW = 64, range(0, 64, 8)
# Compiling takes 4 to 12 seconds on a CPU; a compiled pass with a quick network saves 30
# microseconds.
COMPILE_FROM = 300_000


class Votes:
    """``votes(noise, points)``: how many of the noise draws each class wins, for chosen images.

    The images share the draws, so the affine first layers see the noise once instead of once for
    each image: first(x + noise) = [first(x) - first(0)] + first(noise).

    Parameters
    ----------
    model : callable
        (N, C, H, W) in [0, 1] to logits (N, classes), in eval mode: an image's logits may not
        depend on the others beside it.
    x : Tensor of shape (P, C, H, W)
    classes : int
    quick : nn.Module, optional
        A network that votes first, from :func:`pacd.int8.quantised`. The classifier whose votes
        are counted, and certified, is then: the answer of ``quick`` where its two largest logits
        are more than ``margin`` apart, and the answer of ``model`` elsewhere.
    margin : float
        Chosen without the noise that certifies; see :func:`pacd.int8.safe_margin`. At 0 the quick
        network votes alone.
    batch : int, optional
        Images in one forward pass: several points x several draws. None: see ``BATCH``.
    compiled : bool, optional
        Run the network through torch.compile; None: from ``COMPILE_FROM`` votes on, where it pays.
        Where compiling fails, a warning says so and the network runs uncompiled.

    Raises
    ------
    ValueError
        If a network is in training mode or its parameters or buffers change as it answers, if its
        outputs on the points are not finite, of shape (N, classes) and the same beside other
        images, or its votes under noise are not finite.
    """

    def __init__(self, model, x, classes=10, *, quick=None, margin=0.0, batch=None, compiled=None):
        self.model, self.images, self.classes = model, x, classes
        self.quick, self.margin, self.compiled = quick, margin, compiled
        size, draws = BATCH["cuda" if x.is_cuda else "cpu" if quick is None else "quick"]
        self.batch = batch or size
        self.draws = min(self.batch, draws)
        self.chunk = max(1, min(self.batch // self.draws, len(x)))
        self.layout = torch.channels_last if x.ndim == 4 else torch.contiguous_format
        self.step = tally
        with torch.inference_mode(), full_float32(x.device):
            for network in (model,) if quick is None else (model, quick):
                self._check(network)
            self.lift, self.network, self.first = self._parts()
            self.zero = self.lift(torch.zeros_like(x[:1]))
            self.x = laid_out(self.lift(x) - self.zero, self.layout)
            rows, noise = probes(x)
            parted = logits(*self.network, self.x[rows] + self.lift(noise))
            if not alike(parted, model(x[rows] + noise), 1e-2):
                raise ValueError("the model must act as its layers say; give it as a function.")
        self.voting = self.lift, self.network[0], self.first[0]
        self.before = state(*self.voting)
        if compiled:
            self.compile()

    @property
    def precision(self):
        """What rows say of the classifier."""
        return "float32" if self.quick is None else "mixed" if self.margin else "int8"

    def _check(self, network):
        modules = network.modules() if isinstance(network, nn.Module) else ()
        if any(module.training for module in modules):
            raise ValueError("the model must be in evaluation mode: call model.eval() first.")
        before = state(network)
        # Copies, as a network may change its input in place.
        outputs = torch.cat([network(part.clone()) for part in self.images.split(self.batch)])
        if outputs.shape != (len(self.images), self.classes):
            wanted, got = (len(self.images), self.classes), tuple(outputs.shape)
            raise ValueError(f"the model's outputs must be of shape {wanted}, not {got}.")
        if not outputs.isfinite().all():
            raise ValueError("the model's outputs on the points are not finite.")
        # A last bit may move an integer network by one of its steps.
        tolerance = 1e-2 if network is self.model else 0.1
        rows, noise = probes(self.images)
        x = self.images[rows] + noise
        together, back = network(x.clone()), network(x.flip(0)).flip(0)
        single = torch.cat([network(x[i : i + 1].clone()) for i in FEW])
        pairs = (together, back), (together[FEW], single), (outputs[:1], single[:1])
        if not all(alike(*pair, tolerance) for pair in pairs):
            raise ValueError("the model's outputs must not depend on the batch or chance.")
        unmoved(before, network)

    def _parts(self):
        """What the noise passes once, and with their layout what votes in the end and first."""
        lift, network = split_affine(self.model)
        shared, first = (lift, network) if self.quick is None else split_affine(self.quick)
        if list(shared) != list(lift):  # not the same modules: nothing can be passed once
            lift, network, first = nn.Sequential(), self.model, self.quick
        return self._own(lift), *((self._own(part), self.layout) for part in (network, first))

    def _own(self, part):
        own = isinstance(part, nn.Module)
        return copy.deepcopy(part).to(memory_format=self.layout) if own else part

    def at(self, x):
        """The votes of the same network at other images."""
        pair = {"quick": self.quick, "margin": self.margin}
        return Votes(self.model, x, self.classes, batch=self.batch, **pair)

    @torch.inference_mode()
    def __call__(self, noise, points):
        """Counts (p, classes), int64, for noise (b, C, H, W) and ``points`` (p,), their rows."""
        total = torch.zeros(len(points), self.classes, dtype=torch.int64, device=self.x.device)
        if not len(points):
            return total
        with full_float32(self.x.device):
            for part in noise.split(self.draws):
                part, keep = self._padded(part)
                for rows, chosen in zip(total.split(self.chunk), points.split(self.chunk)):
                    rows += self._count(chosen, part, keep)
        unmoved(self.before, *self.voting)
        if (total.sum(1) != len(noise)).any():
            raise ValueError("the model's outputs under noise are not finite.")
        return total

    def _count(self, points, noise, keep):
        """Counts (p, classes) of one batch: the first network's, and the second's where unsure."""
        missing = 0 if self.step is tally else self.chunk - len(points)
        x = self.x[F.pad(points, (0, missing))]
        margin = torch.tensor(self.margin, device=x.device) if self.margin else None
        counts, unsure = self.step(*self.first, x, noise, keep, self.classes, margin)
        counts, unsure = counts[: len(points)], unsure[: len(points)]
        if self.margin and unsure.any():
            point, draw = unsure.nonzero(as_tuple=True)
            scores = logits(*self.network, x[point] + noise[draw])
            winner, valid = scores.argmax(1), scores.isfinite().all(1)
            counts.index_put_((point, winner), valid.long(), accumulate=True)
        return counts

    def total(self, blocks):
        """Counts (P, classes) at all images over blocks of noise."""
        points = torch.arange(len(self.x), device=self.x.device)
        return sum(self(block, points) for block in blocks)

    def _padded(self, noise):
        """Lifted noise and which of it counts; one shape always, where the step is compiled."""
        missing = 0 if self.step is tally else self.draws - len(noise)
        keep = torch.arange(len(noise) + missing, device=noise.device) < len(noise)
        noise = torch.cat([noise, noise.new_zeros(missing, *noise.shape[1:])])
        return laid_out(self.lift(noise), self.layout), keep

    def prepare(self, draws):
        """Compile where it was left open, and so many draws for each point are enough to pay."""
        if self.compiled is None and self.step is tally and len(self.x) * draws >= COMPILE_FROM:
            self.compile()

    @torch.inference_mode()
    def compile(self):
        """Compile the step; on a GPU to a CUDA graph. Other weights are not compiled again."""
        step = torch.compile(tally, dynamic=False, options={"triton.cudagraphs": self.x.is_cuda})
        before, self.step = self.step, step
        noise, keep = self._padded(torch.zeros_like(self.images[:1]))
        try:
            with full_float32(self.x.device):
                self._count(torch.zeros(1, dtype=torch.int64, device=self.x.device), noise, keep)
        except Exception as error:
            self.step = before
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            warnings.warn(f"certifying without torch.compile ({reason})", stacklevel=3)


def state(*networks):
    """Copies of modules' parameters and buffers; of another callable none are known."""
    modules = [network for network in networks if isinstance(network, nn.Module)]
    return [part.clone() for m in modules for part in (*m.parameters(), *m.buffers())]


def unmoved(before, *networks):
    """Refuse networks whose :func:`state` is no longer the one before."""
    if not all(map(torch.equal, before, state(*networks))):
        raise ValueError("the model's parameters and buffers must not change in evaluation.")


def probes(images):
    """Rows (64,) of some images, and noise for each, of standard deviations from 0 to 1.

    Its generator is not torch's, which draws the noise of certificates.
    """
    rows = torch.arange(PROBES, device=images.device) * len(images) // PROBES
    noise = np.random.default_rng(0).standard_normal((*images.shape[1:], PROBES), np.float32)
    noise = torch.from_numpy(noise) * torch.linspace(0, 1, PROBES)
    return rows, noise.movedim(-1, 0).to(images)


def alike(outputs, others, tolerance):
    """Whether outputs (N, classes) are equal but for offsets and a share of their largest size.

    Rows that are not finite are left to those who count.
    """
    pair = torch.stack([part - part.mean(1, keepdim=True) for part in (outputs, others)])
    pair = pair[:, pair.isfinite().all(2).all(0)].float()
    return not pair.numel() or (pair[0] - pair[1]).abs().max() <= tolerance * pair.abs().max()


def logits(rest, layout, noisy):
    """Lifted noisy images (b, ...) to logits (b, classes)."""
    return rest(laid_out(noisy, layout))


def laid_out(images, layout):
    """In that memory format, unless a layer has made vectors or windows of the images."""
    return images.contiguous(memory_format=layout if images.ndim == 4 else torch.contiguous_format)


def tally(rest, layout, x, noise, keep, classes, margin):
    """Counts (p, classes) over the draws that ``keep`` (b,) marks, and what they leave out (p, b).

    Left out are outputs that are not finite and, given a margin, winners that lead by no more.
    By comparison, as bincount would wait for a GPU.
    """
    scores = logits(rest, layout, (x[:, None] + noise).flatten(0, 1))  # (p * b, classes)
    wins = scores.argmax(1)[:, None] == torch.arange(classes, device=x.device)
    valid = scores.isfinite().all(1)
    if margin is not None:
        lead = scores.amax(1) - scores.masked_fill(wins, -torch.inf).amax(1)
        valid = valid & (lead > margin)
    counted = valid.view(len(x), len(noise)) & keep  # (p, b)
    votes = wins.view(*counted.shape, classes) & counted[..., None]
    return votes.sum(1), ~counted & keep


@contextmanager
def full_float32(device):
    """No TF32 and no autocast: ten bits or fewer would round first(x) and first(noise) apart."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
