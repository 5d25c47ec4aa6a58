"""Networks. Normalisation is the first layer, so certificates are about pixels in [0, 1]."""

from functools import partial

import torch
from torch import nn

from pacd import names


class Normalise(nn.Module):
    """(x - mean) / std, one constant for all channels."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x):
        return (x - self.mean) / self.std


AFFINE = (Normalise, nn.Conv2d, nn.Linear, nn.Flatten, nn.AvgPool2d, nn.Identity)


def lenet(shape, classes):
    """The paper's MNIST network: 20 filters of 5x5, pool, 50 of 5x5, pool, fc 500, fc."""
    channels, height, width = shape
    rows, columns = ((side - 4) // 2 - 4 for side in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(50 * (rows // 2) * (columns // 2), 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )


def mlp(shape, classes):
    """Two hidden layers of 500; for transfer on 28x28 images."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, 500),
        nn.ReLU(),
        nn.Linear(500, 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )


def cnn(shape, classes):
    """Four 3x3 convolutions and two dense layers, larger than LeNet; for transfer on 28x28 images."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 256),
        nn.ReLU(),
        nn.Linear(256, classes),
    )


class Residual(nn.Module):
    """conv-bn-relu-conv-bn plus a shortcut that pads new channels with zeros (option A of He et al.)."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.pad, self.stride = after - before, stride
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x):
        shortcut = nn.functional.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.pad)
        )
        return (self.branch(x) + shortcut).relu()


def resnet(shape, classes, depth):
    """ResNet for 32x32 images (He et al., arXiv 1512.03385, section 4.2), with working batch norm."""
    blocks = (depth - 2) // 6
    widths = [16] * (blocks + 1) + [32] * blocks + [64] * blocks
    body = [Residual(a, b, 1 if a == b else 2) for a, b in zip(widths, widths[1:])]
    stem = [nn.Conv2d(shape[0], 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(
        *stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)
    )


resnet20, resnet56 = partial(resnet, depth=20), partial(resnet, depth=56)


def vgg(shape, classes):
    """VGG-style (arXiv 1409.1556): 3x3 convolutions with batch norm, width doubled at each of four pools."""
    layers, channels = [], shape[0]
    for width, count in ((64, 1), (128, 1), (256, 2), (512, 2)):
        for _ in range(count):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )


NORMALISATIONS = {
    "centred": (0.5, 0.5),
    "none": (0.0, 1.0),
    "mnist": (0.1307, 0.3081),
}  # mean, std; the last those of MNIST's training pixels

MODELS = {name: globals()[name] for name in names.ARCHITECTURES}


def split_affine(model):
    """``(first, rest)`` with model(x) = rest(first(x)) and first(x + d) = first(x) + first(d) - first(0).

    ``first`` holds the leading affine layers of an ``nn.Sequential``; for any other model it is empty.
    """
    if not isinstance(model, nn.Sequential):
        return nn.Sequential(), model
    stop = next((i for i, layer in enumerate(model) if not isinstance(layer, AFFINE)), len(model))
    return model[:stop], model[stop:]


def make_model(name, shape, classes, seed, normalisation="centred"):
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
    normalisation : str
        A key of ``NORMALISATIONS``, the constants of the first layer.

    Returns
    -------
    torch.nn.Module
        Maps (N, C, H, W) in [0, 1] to logits (N, classes).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            Normalise(*NORMALISATIONS[normalisation]), *MODELS[name](shape, classes)
        )
    return model.to(memory_format=torch.channels_last)
