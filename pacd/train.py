"""The one training loop; the loss is a parameter."""

import math

import torch
from tqdm import tqdm

from study.checkpoint import NOTHING


def train(
    model,
    x,
    y,
    loss,
    *,
    epochs,
    batch,
    lr,
    weight_decay=0.0,
    schedule="constant",
    augment=None,
    seed=0,
    progress=False,
    checkpoint=NOTHING,
):
    """Train a network in place with Adam.

    Parameters
    ----------
    model : torch.nn.Module
    x, y : tensors of shape (N, C, H, W) and (N,)
        On the device of the model.
    loss : callable
        ``loss(model, x, y, generator=..., epoch=...) -> scalar``; see :mod:`pacd.losses`.
    epochs, batch : int
    lr, weight_decay : float
        Adam's step size; weight_decay is added to the gradient (L2 regularisation).
    schedule : str
        ``constant``, or ``cosine``: the step size falls to 0 along a cosine, which takes the noise of the last steps
        out of the victim.
    augment : callable, optional
        Applied to every batch of images; may draw from torch's global random state, which is seeded here and restored.
    seed : int
        Seed of the order of the images and of the noise.
    progress : bool
        Show a progress bar.
    checkpoint : Checkpoint
        Where the state is kept between epochs, and found again after a kill.

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
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    steps = epochs * math.ceil(len(x) / batch)
    decay = {
        "constant": lambda step: 1.0,
        "cosine": lambda step: (1 + math.cos(math.pi * step / steps)) / 2,
    }[schedule]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, decay)
    x = x.contiguous(memory_format=torch.channels_last)
    model.train()
    parts = model, optimizer, scheduler, generator, torch.default_generator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        history = checkpoint.resume(parts, [])
        for epoch in tqdm(range(len(history), epochs), disable=not progress, leave=False):
            total = torch.zeros((), device=x.device)
            for rows in torch.randperm(len(x), generator=generator, device=x.device).split(batch):
                images = augment(x[rows]) if augment else x[rows]
                value = loss(model, images, y[rows], generator=generator, epoch=epoch)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                scheduler.step()
                total += value.detach() * len(rows)
            history.append(total.item() / len(x))
            if not torch.isfinite(total):
                raise FloatingPointError(
                    f"the training loss is not finite in epoch {epoch + 1}; lower lr or raise batch."
                )
            checkpoint.keep(parts, history, last=epoch + 1 == epochs)
    return history
