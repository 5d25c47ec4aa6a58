"""Networks. Normalisation is the first layer, so certificates are about pixels in [0, 1]."""

from functools import cache, partial

import torch
from torch import nn


class Normalise(nn.Module):
    """(x - mean) / std, one constant for all channels; images may have any shape."""

    def __init__(self, mean, std, shape=None):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x):
        return (x - self.mean) / self.std


class Windows(nn.Module):
    """The windows that max pooling sees, (N, C, H, W) to (N, side, side, H', W', C)."""

    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, x):
        rows = x.unfold(2, self.side, self.side)
        return rows.unfold(3, self.side, self.side).permute(0, 4, 5, 2, 3, 1)


class Largest(nn.Module):
    """What max pooling makes of its windows, (N, side, side, H, W, C) to (N, C, H, W)."""

    def forward(self, windows):
        return windows.amax((1, 2)).permute(0, 3, 1, 2)


windows = cache(Windows)  # one module, so that two networks have it in common


# The constants of the first layer: mean, std. The paper's networks take raw pixels; the others are
# for comparison, the last with the constants of MNIST's training pixels.
CONSTANTS = {"none": (0.0, 1.0), "centred": (0.5, 0.5), "mnist": (0.1307, 0.3081)}
NORMALISATIONS = {name: partial(Normalise, *both) for name, both in CONSTANTS.items()}
AFFINE = {Normalise, Windows, nn.Conv2d, nn.Linear, nn.Flatten, nn.AvgPool2d, nn.Identity}


def convolution(inputs, outputs):
    """3x3, padded, and ReLU."""
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()


def normalised(inputs, outputs, stride=1):
    """3x3, padded, without a bias before batch norm, and ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return layer, nn.BatchNorm2d(outputs), nn.ReLU()


def dense(*widths):
    """Fully connected layers, with ReLU between them."""
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


def lenet(shape, classes):
    """The paper's MNIST network: 20 filters of 5x5, pool, 50 of 5x5, pool, fc 500, fc."""
    channels, height, width = shape
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    first = nn.Conv2d(channels, 20, 5), nn.MaxPool2d(2), nn.ReLU()
    second = nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU()
    return nn.Sequential(*first, *second, nn.Flatten(), *dense(50 * rows * columns, 500, classes))


def mlp(shape, classes):
    """Two hidden layers of 500; for transfer on 28x28 images."""
    channels, height, width = shape
    return nn.Sequential(nn.Flatten(), *dense(channels * height * width, 500, 500, classes))


def cnn(shape, classes):
    """Four 3x3 convolutions and two dense layers, larger than LeNet; for transfer."""
    channels, height, width = shape
    first = *convolution(channels, 32), *convolution(32, 32), nn.MaxPool2d(2)
    second = *convolution(32, 64), *convolution(64, 64), nn.MaxPool2d(2)
    features = 64 * (height // 4) * (width // 4)
    return nn.Sequential(*first, *second, nn.Flatten(), *dense(features, 256, classes))


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut that subsamples and pads with zeros."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        first = normalised(inputs, outputs, stride)
        second = normalised(outputs, outputs)[:2]
        self.branch = nn.Sequential(*first, *second)
        self.stride, self.pad = stride, outputs - inputs

    def forward(self, x):
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.pad))
        return (self.branch(x) + shortcut).relu()


def resnet(shape, classes, depth):
    """ResNet for 32x32 images (He et al., arXiv 1512.03385, section 4.2), with batch norm."""
    blocks = (depth - 2) // 6
    widths = [16] * (blocks + 1) + [32] * blocks + [64] * blocks
    body = [Residual(a, b, 1 if a == b else 2) for a, b in zip(widths, widths[1:])]
    stem = normalised(shape[0], 16)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)
    return nn.Sequential(*stem, *body, *head)


def vgg(shape, classes):
    """VGG-style (arXiv 1409.1556): 3x3 convolutions with batch norm, four pools."""
    layers, channels = [], shape[0]
    for width, count in ((64, 1), (128, 1), (256, 2), (512, 2)):
        for _ in range(count):
            layers += normalised(channels, width)
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    return nn.Sequential(*layers, *head)


RESNETS = {f"resnet{depth}": partial(resnet, depth=depth) for depth in (20, 56)}
MODELS = {"lenet": lenet, "mlp": mlp, "cnn": cnn, **RESNETS, "vgg": vgg}


def is_plain(module, *types):
    """Whether a module is exactly of one of the types, without hooks or a forward of its own."""
    own = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
    return type(module) in types and not own


def split_affine(model):
    """``(first, rest)``: model(x) = rest(first(x)), first(x + d) = first(x) + first(d) - first(0).

    ``first`` holds the leading affine layers of an ``nn.Sequential``, and the windows of a max
    pooling behind them, the largest of which ``rest`` takes; for any other model, with a forward
    of its own or hooks too, it is empty.
    """
    if not (isinstance(model, nn.Module) and is_plain(model, nn.Sequential)):
        return nn.Sequential(), model
    odd = (i for i, layer in enumerate(model) if not is_plain(layer, *AFFINE))
    stop = next(odd, len(model))
    first, rest = model[:stop], model[stop:]
    if len(rest) and side_by_side(rest[0]):
        return nn.Sequential(*first, windows(rest[0].stride)), nn.Sequential(Largest(), *rest[1:])
    return first, rest


def side_by_side(pool):
    """Whether it is a max pooling whose windows are square and neither overlap nor leave gaps."""
    square = is_plain(pool, nn.MaxPool2d) and isinstance(pool.stride, int)
    return square and pool.extra_repr() == nn.MaxPool2d(pool.stride).extra_repr()


# Keras's default, which the paper's LeNet has.
glorot_uniform = nn.init.xavier_uniform_


def he_normal(weight):
    """Keras's, which the paper's ResNet has: of variance 2 / inputs, cut at two deviations."""
    deviation = (2 / weight[0].numel()) ** 0.5 / 0.87962566  # of the normal before it is cut
    nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation)


def initialise(model, draw):
    """Fresh weights by ``draw`` and zero biases in every convolution and dense layer."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def make_model(name, shape, classes, seed, normalisation="none"):
    """A freshly initialised network.

    As in the authors' code, it takes raw pixels; weights are Glorot-uniform, in the ResNets
    He-normal, and biases zero.

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
        A key of ``NORMALISATIONS``.

    Returns
    -------
    torch.nn.Module
        Maps (N, C, H, W) in [0, 1] to logits (N, classes).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, network = NORMALISATIONS[normalisation](shape), MODELS[name](shape, classes)
        initialise(network, he_normal if name in RESNETS else glorot_uniform)
        layers = network if is_plain(network, nn.Sequential) else [network]
        model = nn.Sequential(first, *layers)
    return model.to(memory_format=torch.channels_last)
