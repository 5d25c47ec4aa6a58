"""The one training loop; the loss is a parameter."""

import inspect
import math
import os
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        history = checkpoint.resume(parts, [])
        step = model_step(model, loss, optimizer, generator)
        for epoch in range(len(history), epochs):
            total = torch.zeros((), device=x.device)
            order = torch.randperm(len(x), generator=generator, device=x.device)
            for done, rows in enumerate(order.split(batch), start=epoch * per_epoch):
                set_step_size(optimizer, lr * factor(done, epochs * per_epoch))
                images = augment(x[rows]) if augment else x[rows]
                total += step(images, y[rows], epoch) * len(rows)
            history.append(total.item() / len(x))
            if not math.isfinite(history[-1]):
                where = f"epoch {epoch + 1}; lower lr, or mend the loss."
                raise FloatingPointError(f"the training loss is not finite in {where}")
            checkpoint.keep(parts, history, last=epoch + 1 == epochs)
    return history


def model_step(model, loss, optimizer, generator):
    """A step of training: ``step(images, labels, epoch=None) -> loss``; a GPU replays it."""

    def step(images, labels, epoch=None):
        value = loss(model, images, labels, generator=generator, epoch=epoch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return replayed(step, generator, loss)


# ---- a GPU replays its steps: to launch small kernels takes longer than to run them ----

EPOCHS = ("warmup", "deferral")  # a loss's parameters: epochs in which it is another


def replayed(step, generator, loss):
    """The step of a loss, as a :class:`Replay` on a GPU unless ``PACD_GRAPHS=0`` says no.

    Nor is a loss with ``capturable = False``: a captured step repeats what its Python did once.
    """
    plain = os.environ.get("PACD_GRAPHS") == "0" or not getattr(loss, "capturable", True)
    if generator.device.type != "cuda" or plain:
        return step
    return Replay(step, generator, warmup_of(loss))


def warmup_of(loss):
    """Epochs in which a loss depends on the epoch, by its parameters."""
    told = inspect.signature(loss).parameters
    return max((told[name].default for name in EPOCHS if name in told), default=0)


WARM = 3  # plain steps before a capture: they make Adam's state, and compile what comes late


class Replay:
    """A training step that is captured as a CUDA graph, and replayed.

    Called like the step; the first batches and those of another size run plainly.

    Parameters
    ----------
    step : callable
        ``step(images, labels, epoch) -> scalar``; it may not wait for the GPU.
    generator : torch.Generator
        Of the noise in the step.
    warmup : int
        Epochs in each of which the step is another, so that it is captured anew; without an epoch,
        as attacks call it, the step is that of all later ones.
    """

    def __init__(self, step, generator, warmup):
        self.step, self.generator, self.warmup = step, generator, warmup
        self.stream = torch.cuda.Stream(generator.device)
        self.graph = self.phase = self.shape = None
        self.plain = 0  # steps so far

    def __call__(self, images, labels, epoch=None):
        self.shape = self.shape or images.shape
        if self.plain < WARM or images.shape != self.shape:
            self.plain += 1
            return self._beside(images, labels, epoch)
        phase = self.warmup if epoch is None else min(epoch, self.warmup)
        if self.phase != phase:
            self._capture(phase, images, labels, epoch)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        return self.value

    def _beside(self, *batch):
        """A plain step, on a stream of its own, as a capture asks of those before it."""
        main = torch.cuda.current_stream()
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            value = self.step(*batch)
        main.wait_stream(self.stream)
        return value

    def _capture(self, phase, images, labels, epoch):
        self.phase, self.graph = phase, torch.cuda.CUDAGraph()
        self.images, self.labels = images.clone(), labels.clone()
        self.graph.register_generator_state(self.generator)
        try:
            with torch.cuda.graph(self.graph):
                self.value = self.step(self.images, self.labels, epoch)
        except RuntimeError as error:
            way = "set PACD_GRAPHS=0 to train without"
            raise RuntimeError(f"the training step fits no CUDA graph; {way}.") from error
