"""Votes of a network under noise, fast: the speed tricks of the certifier, and nothing else.

None of them changes what is counted. In float32 a vote can differ from the plain forward's only
where the two largest logits agree to rounding; in bfloat16 or int8 the network that votes is the
bfloat16 or int8 one, whichever tricks are on.
"""

import copy
import warnings
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from pacd.int8 import is_quantised
from pacd.models import split_affine

# Of what lies between the multiplications.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}
# Noise draws made at a time, whatever the batch, so that the same seed gives the same draws.
DRAWS = 1000
# Of them in one forward pass on a CPU, beside several points: the lifted noise stays in its cache.
CPU_DRAWS = 100
# Compiling takes half a minute on a CPU and saves some 20 microseconds a vote.
COMPILE_FROM = 2_000_000


class Votes:
    """``votes(noise, points)``: how many of the noise draws each class wins, for chosen images.

    The images share the draws, so the affine first layers see the noise once instead of once for
    each image: first(x + noise) = [first(x) - first(0)] + first(noise). These terms and their sum
    are float32 in every precision; only the layers after them are cast. (Two terms rounded apart
    would make a classifier of x and of the noise, and the theorem speaks of one of their sum.)

    Parameters
    ----------
    model : callable
        (N, C, H, W) in [0, 1] to logits (N, classes), in eval mode.
    x : Tensor of shape (P, C, H, W)
    classes : int
    precision : {"float32", "bfloat16", "int8"}
        The f whose votes are counted. In bfloat16 it is the network whose layers after the affine
        first ones run in bfloat16, in int8 the integer network from :func:`pacd.int8.quantised`:
        certificates hold for it, and not for its float32 original.
    batch : int
        Images in one forward pass: several points x several draws.
    compiled : bool, optional
        Run f through torch.compile; None: from ``COMPILE_FROM`` votes on, where it pays. Where
        compiling fails, a warning says so and the network runs uncompiled.

    Raises
    ------
    ValueError
        If the precision is unknown or not the model's, a model that is no ``nn.Module`` should be
        cast, or an output is not finite (a diverged network votes for one class with full
        confidence).
    """

    def __init__(self, model, x, classes=10, *, precision="float32", batch=250, compiled=None):
        self.model, self.images, self.classes = model, x, classes
        self.precision, self.batch, self.compiled = precision, batch, compiled
        self._build()
        self.draws = min(batch, DRAWS if x.is_cuda else CPU_DRAWS)
        self.chunk = max(1, min(batch // self.draws, len(x)))
        self.step = tally
        with torch.inference_mode(), full_float32():
            self.zero = self.lift(torch.zeros_like(x[:1]))
            self.x = laid_out(self.lift(x) - self.zero, self.layout)
            parts = self.x.split(batch)
            if not all(logits(*self.network, part, self.zero).isfinite().all() for part in parts):
                raise ValueError("the model's outputs on the points are not finite.")
        if compiled:
            self.compile()

    def _build(self):
        """The network in two parts: ``lift``, which the noise passes once, and the rest."""
        precision = self.precision
        if precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise ValueError(f"precision must be one of {known}, not {precision!r}.")
        if (precision == "int8") != is_quantised(self.model):
            raise ValueError(
                "precision int8 goes with a model from pacd.int8.quantised, and only with one."
            )
        on_images = self.images.ndim == 4
        self.layout = torch.channels_last if on_images else torch.contiguous_format
        first, rest = split_affine(self.model)
        if isinstance(rest, nn.Module):
            parts = copy.deepcopy(first), copy.deepcopy(rest)
            first, rest = (part.to(memory_format=self.layout) for part in parts)
            rest.to(PRECISIONS[precision])
        elif precision != "float32":
            raise ValueError("only an nn.Module can be certified in bfloat16.")
        self.lift, self.network = first, (rest, self.layout, PRECISIONS[precision])

    def at(self, x):
        """The votes of the same network at other images."""
        return Votes(self.model, x, self.classes, precision=self.precision, batch=self.batch)

    @torch.inference_mode()
    def __call__(self, noise, points):
        """Counts (p, classes), int64, for noise (b, C, H, W) and ``points`` (p,), their rows."""
        total = torch.zeros(len(points), self.classes, dtype=torch.int64, device=self.x.device)
        if not len(points):
            return total
        with full_float32():
            for part in noise.split(self.draws):
                part, keep = self._padded(part)
                for rows, chosen in zip(total.split(self.chunk), points.split(self.chunk)):
                    if self.step is not tally:
                        chosen = F.pad(chosen, (0, self.chunk - len(chosen)))
                    counts = self.step(*self.network, self.x[chosen], part, keep, self.classes)
                    rows += counts[: len(rows)]
        return total

    def total(self, blocks):
        """Counts (P, classes) at all images over blocks of noise."""
        points = torch.arange(len(self.x), device=self.x.device)
        return sum(self(block, points) for block in blocks)

    def _padded(self, noise):
        """Lifted noise and which of it counts; one shape always, where the step is compiled."""
        missing = 0 if self.step is tally else self.draws - len(noise)
        keep = torch.arange(len(noise) + missing, device=noise.device) < len(noise)
        if missing:
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
        noise = self.zero.repeat(self.draws, *[1] * (self.zero.ndim - 1))
        keep = torch.ones(self.draws, dtype=torch.bool, device=self.x.device)
        arguments = self.x[: self.chunk], laid_out(noise, self.layout), keep, self.classes
        try:
            with full_float32():
                step(*self.network, *arguments)
            self.step = step
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            warnings.warn(f"certifying without torch.compile ({reason})", stacklevel=3)


def logits(rest, layout, dtype, x, noise):
    """Lifted images (p, ...) and draws (b, ...) to logits (p * b, classes)."""
    noisy = (x[:, None] + noise).flatten(0, 1)  # (p * b, ...)
    return rest(laid_out(noisy, layout).to(dtype))


def laid_out(images, layout):
    """In that memory format, unless a layer has made vectors of the images."""
    return images.contiguous(memory_format=layout) if images.ndim == 4 else images


def tally(rest, layout, dtype, x, noise, keep, classes):
    """Counts (p, classes) over the draws that ``keep`` (b,) marks.

    By comparison, as bincount would wait for a GPU.
    """
    winner = logits(rest, layout, dtype, x, noise).argmax(1).view(len(x), len(noise), 1)
    return ((winner == torch.arange(classes, device=x.device)) & keep[:, None]).sum(1)


@contextmanager
def full_float32():
    """No TF32, whose ten bits would round first(x) and first(noise) apart."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
