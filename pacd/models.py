"""Networks. Normalisation is the first layer, so certificates are about pixels in [0, 1]."""

import torch
from torch import nn


class Normalise(nn.Module):
    """(x - mean) / std, one constant for all channels."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x):
        return (x - self.mean) / self.std


def lenet(shape, classes):
    """The paper's MNIST network: conv 20@5x5, pool, conv 50@5x5, pool, fc 500, fc."""
    channels, height, width = shape
    rows, columns = ((side - 4) // 2 - 4 for side in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(50 * (rows // 2) * (columns // 2), 500), nn.ReLU(),
        nn.Linear(500, classes),
    )


MODELS = {"lenet": lenet}


def make_model(name, shape, classes, seed):
    """A freshly initialised network.

    Parameters
    ----------
    name : str
        A key of ``MODELS``.
    shape : tuple
        (C, H, W) of one image.
    classes : int
        Number of outputs.
    seed : int
        Seed of the initial weights; the global random state is left as it was.

    Returns
    -------
    torch.nn.Module
        Maps (N, C, H, W) in [0, 1] to logits (N, classes).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(Normalise(0.5, 0.5), *MODELS[name](shape, classes))
    return model.to(memory_format=torch.channels_last)
