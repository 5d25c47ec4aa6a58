"""Votes of a network under noise, fast: the speed tricks of the certifier, and nothing else.

None of them changes what is counted. In float32 a vote can differ from the plain forward's only where the two largest
logits agree to rounding; in bfloat16 or int8 the network that votes is the bfloat16 or int8 one, whichever tricks are on.
"""

import copy
import warnings
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from pacd.int8 import is_quantised
from pacd.models import split_affine

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": torch.float32,
}  # of what lies between the multiplications
DRAWS = 1000  # noise draws made at a time, whatever the batch, so that the same seed gives the same draws
CPU_DRAWS = 100  # of them in one forward pass on a CPU, beside several points, so that the lifted noise stays in its cache


class Votes:
    """``votes(noise, points)``: how many of the noise draws each class wins, for each chosen image.

    The images share the draws, so the affine first layers see the noise once instead of once for each image:
    first(x + noise) = [first(x) - first(0)] + first(noise). These terms and their sum are float32 in every precision;
    only the layers after them are cast. (Two terms rounded apart would make a classifier of x and of the noise, and
    the theorem speaks of one of their sum.)

    Parameters
    ----------
    model : callable
        (N, C, H, W) to logits (N, classes), in eval mode.
    x : Tensor of shape (P, C, H, W)
    classes : int
    precision : {"float32", "bfloat16", "int8"}
        Of the layers after the affine first ones; int8 for a model from :func:`pacd.int8.quantised`.
    batch : int
        Images in one forward pass: several points x several draws.
    cached, channels_last, compiled : bool
        The tricks. Where compiling fails, a warning says so and the network runs uncompiled.

    Raises
    ------
    ValueError
        If the precision is unknown or not the model's, a model that is no ``nn.Module`` should be cast, or an output is
        not finite (a diverged network votes for one class with full confidence).
    """

    def __init__(
        self,
        model,
        x,
        classes,
        *,
        precision="float32",
        batch=250,
        cached=True,
        channels_last=True,
        compiled=False,
    ):
        if precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}."
            )
        if (precision == "int8") != is_quantised(model):
            raise ValueError(
                "precision int8 goes with a model from pacd.int8.quantised, and only with one."
            )
        first, rest = split_affine(model)
        layout = torch.channels_last if channels_last and x.ndim == 4 else torch.contiguous_format
        if isinstance(rest, nn.Module):
            first, rest = (copy.deepcopy(part).to(memory_format=layout) for part in (first, rest))
            rest.to(PRECISIONS[precision])
        elif precision != "float32":
            raise ValueError("only an nn.Module can be certified in bfloat16.")
        self.lift, lower = (first, nn.Identity()) if cached else (nn.Identity(), first)
        self.layout, self.network = layout, (lower, rest, layout, PRECISIONS[precision])
        self.draws = min(batch, DRAWS if x.is_cuda else CPU_DRAWS)
        self.chunk, self.classes = max(1, min(batch // self.draws, len(x))), classes
        with torch.inference_mode(), full_float32():
            zero = torch.zeros_like(x[:1])
            self.x = laid_out(self.lift(x) - self.lift(zero) if cached else x, layout)
            if not all(
                logits(*self.network, part, self.lift(zero)).isfinite().all()
                for part in self.x.split(batch)
            ):
                raise ValueError("the model's outputs on the points are not finite.")
            self.step = self._compile(self.lift(zero)) if compiled else count

    @torch.inference_mode()
    def __call__(self, noise, points):
        """Counts of shape (p, classes), int64, for ``noise`` of shape (b, C, H, W) and ``points`` (p,), indices of images."""
        total = torch.zeros(len(points), self.classes, dtype=torch.int64, device=self.x.device)
        if not len(points):
            return total
        with full_float32():
            for part in noise.split(self.draws):
                keep = torch.arange(self.draws, device=noise.device) < len(part)
                if self.step is count:
                    keep = keep[: len(part)]
                else:  # one shape for every draw and point, so that one compiled network casts every vote
                    part = torch.cat(
                        [part, part.new_zeros(self.draws - len(part), *part.shape[1:])]
                    )
                part = laid_out(self.lift(part), self.layout)
                for rows, chosen in zip(total.split(self.chunk), points.split(self.chunk)):
                    if self.step is not count:
                        chosen = F.pad(chosen, (0, self.chunk - len(chosen)))
                    rows += self.step(*self.network, self.x[chosen], part, keep, self.classes)[
                        : len(rows)
                    ]
        return total

    def _compile(self, zero):
        """The compiled step; on a GPU as a CUDA graph. The same network with other weights is not compiled again."""
        step = torch.compile(count, dynamic=False, options={"triton.cudagraphs": zero.is_cuda})
        noise = laid_out(zero.repeat(self.draws, *[1] * (zero.ndim - 1)), self.layout)
        keep = torch.ones(self.draws, dtype=torch.bool, device=zero.device)
        try:
            step(*self.network, self.x[: self.chunk], noise, keep, self.classes)
        except Exception as error:
            warnings.warn(
                f"certifying without torch.compile ({type(error).__name__}: {str(error).splitlines()[0]})",
                stacklevel=4,
            )
            return count
        return step


def logits(lower, rest, layout, dtype, x, noise):
    """Lifted images (p, ...) and draws (b, ...) to logits (p * b, classes)."""
    noisy = (x[:, None] + noise).flatten(0, 1)  # (p * b, ...)
    return rest(lower(laid_out(noisy, layout)).to(dtype))


def laid_out(images, layout):
    """In that memory format, unless a layer has made vectors of the images."""
    return images.contiguous(memory_format=layout) if images.ndim == 4 else images


def count(lower, rest, layout, dtype, x, noise, keep, classes):
    """Counts (p, classes) over the draws that ``keep`` (b,) marks; by comparison, as bincount would wait for a GPU."""
    winner = logits(lower, rest, layout, dtype, x, noise).argmax(1).view(len(x), len(noise), 1)
    return ((winner == torch.arange(classes, device=x.device)) & keep[:, None]).sum(1)


@contextmanager
def full_float32():
    """No TF32, whose ten bits would round first(x) and first(noise) apart."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, value in zip(backends, before):
            backend.allow_tf32 = value
