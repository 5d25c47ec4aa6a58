"""The one training loop; the loss is a parameter."""

import math
from functools import partial
from typing import NamedTuple

import torch

from pacd.replay import replayed


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


def make_optimizer(model, name, lr, weight_decay):
    """One of ``OPTIMIZERS``; on a GPU its step size is there too, so that a CUDA graph holds it."""
    parameters = list(model.parameters())
    options = {"weight_decay": weight_decay}
    if parameters[0].is_cuda:
        options |= {"fused": True} | ({"capturable": True} if name == "adam" else {})
        lr = torch.tensor(lr, device=parameters[0].device)
    return OPTIMIZERS[name](parameters, lr=lr, **options)


def set_step_size(optimizer, lr):
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


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
    optimizer = make_optimizer(model, optimizer, lr, weight_decay)
    factor, per_epoch = SCHEDULES[schedule], math.ceil(len(x) / batch)
    x = x.contiguous(memory_format=torch.channels_last)
    model.train()
    parts = model, optimizer, generator, torch.default_generator

    def plain_step(images, labels, epoch):
        value = loss(model, images, labels, generator=generator, epoch=epoch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        history = checkpoint.resume(parts, [])
        step = replayed(plain_step, generator, loss)
        for epoch in range(len(history), epochs):
            total = torch.zeros((), device=x.device)
            order = torch.randperm(len(x), generator=generator, device=x.device)
            for done, rows in enumerate(order.split(batch), start=epoch * per_epoch):
                set_step_size(optimizer, lr * factor(done, epochs * per_epoch))
                images = augment(x[rows]) if augment else x[rows]
                total += step(images, y[rows], epoch) * len(rows)
            history.append(total.item() / len(x))
            if not math.isfinite(history[-1]):
                where = f"epoch {epoch + 1}; lower lr or raise batch."
                raise FloatingPointError(f"the training loss is not finite in {where}")
            checkpoint.keep(parts, history, last=epoch + 1 == epochs)
    return history
