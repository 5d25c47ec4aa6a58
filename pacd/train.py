"""The one training loop; the loss is a parameter."""

import math
from functools import partial
from typing import NamedTuple

import torch


class Unkept:
    """A checkpoint that keeps nothing, the default; ``study.checkpoint`` has one that does."""

    def resume(self, parts, progress):
        return progress

    def keep(self, parts, progress, last=False):
        pass


NOTHING = Unkept()


def cosine(step, steps):
    """The factor of the step size: 1 to 0, which takes the last steps' noise out of a victim."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def thirds(step, steps):
    """The factor of the step size: 1, 0.1 and 0.01, as published victims of MNIST have it."""
    return 0.1 ** (3 * step // steps)


SCHEDULES = {"constant": lambda step, steps: 1.0, "cosine": cosine, "thirds": thirds}
# Momentum as in Cohen et al. (arXiv 1902.02918) and those who train as they do.
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": partial(torch.optim.SGD, momentum=0.9)}


class Recipe(NamedTuple):
    """How long, and with which steps.

    epochs, batch : images are drawn without replacement within an epoch.
    lr : the step size. schedule : a key of ``SCHEDULES``.
    weight_decay : added to the gradient (L2 regularisation).
    optimizer : a key of ``OPTIMIZERS``.
    """

    epochs: int
    batch: int
    lr: float
    schedule: str = "constant"
    weight_decay: float = 0.0
    optimizer: str = "adam"


def train(model, x, y, loss, *, augment=None, seed=0, checkpoint=NOTHING, **recipe):
    """Train a network in place.

    Parameters
    ----------
    model : torch.nn.Module
    x, y : tensors of shape (N, C, H, W) and (N,)
        On the device of the model.
    loss : callable
        ``loss(model, x, y, generator=..., epoch=...) -> scalar``; see :mod:`pacd.losses`.
    augment : callable, optional
        Applied to every batch of images; may draw from torch's global random state, which is
        seeded here and restored.
    seed : int
        Seed of the order of the images and of the noise.
    checkpoint : object
        Where the state is kept between epochs, and found again after a kill.
    recipe
        The fields of :class:`Recipe`.

    Returns
    -------
    list of float
        Mean training loss of each epoch.

    Raises
    ------
    FloatingPointError
        If an epoch's loss is not finite; the weights are never silently reset.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    epochs, batch, lr, schedule, weight_decay, optimizer = Recipe(**recipe)
    make = OPTIMIZERS[optimizer]
    optimizer = make(model.parameters(), lr=lr, weight_decay=weight_decay)
    decay = partial(SCHEDULES[schedule], steps=epochs * math.ceil(len(x) / batch))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, decay)
    x = x.contiguous(memory_format=torch.channels_last)
    model.train()
    parts = model, optimizer, scheduler, generator, torch.default_generator

    def step(rows, epoch):
        images = augment(x[rows]) if augment else x[rows]
        value = loss(model, images, y[rows], generator=generator, epoch=epoch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        scheduler.step()
        return value.detach() * len(rows)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        history = checkpoint.resume(parts, [])
        for epoch in range(len(history), epochs):
            total = torch.zeros((), device=x.device)
            order = torch.randperm(len(x), generator=generator, device=x.device)
            for rows in order.split(batch):
                total += step(rows, epoch)
            history.append(total.item() / len(x))
            if not math.isfinite(history[-1]):
                where = f"epoch {epoch + 1}; lower lr or raise batch."
                raise FloatingPointError(f"the training loss is not finite in {where}")
            checkpoint.keep(parts, history, last=epoch + 1 == epochs)
    return history
