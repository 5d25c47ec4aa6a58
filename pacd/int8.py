"""Networks that multiply 8-bit integers, quantised once after training, to be certified faster on a CPU.

The certified classifier is then the integer network. Its ranges are fixed by other images and other noise than those that
certify, so it is one function of the noisy image like any other.
"""

import copy
from functools import cache, reduce
from itertools import pairwise
from math import prod

import torch
from torch import nn

from pacd.models import split_affine

EXACT = (2**31 - 1) // (255 * 127)  # most products whose sum cannot leave 32 bits
FLOAT_OUTPUT = 1.0, 0, torch.float32, "none", [], ""


def convolution(x, step, zero, weight, steps, bias, stride, padding, dilation, groups):
    """PyTorch's integer convolution (oneDNN): uint8 images and packed int8 weights to float32."""
    zeros = torch.zeros(len(steps), dtype=torch.int32)
    shape = stride, padding, dilation, groups
    return torch.ops.onednn.qconv_pointwise(
        x, step.item(), int(zero), weight, steps, zeros, bias, *shape, *FLOAT_OUTPUT
    )


def convolution_shape(x, step, zero, weight, steps, bias, stride, padding, dilation, groups):
    """What the compiler has to know about it."""
    kernel, sides = weight.shape[2:], x.shape[2:]
    sides = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(sides, padding, dilation, kernel, stride)
    )
    return x.new_empty(len(x), len(steps), *sides, dtype=torch.float32).to(
        memory_format=torch.channels_last
    )


def dense(x, step, zero, weight, steps, bias):
    """The same for a dense layer; images (N, C, H, W) are flattened in the order in which they lie, (H, W, C)."""
    x = x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x
    zeros = torch.zeros(len(steps), dtype=torch.int32)
    return torch.ops.onednn.qlinear_pointwise(
        x, step.item(), int(zero), weight, steps, zeros, bias, *FLOAT_OUTPUT
    )


def dense_shape(x, step, zero, weight, steps, bias):
    return x.new_empty(len(x), len(steps), dtype=torch.float32)


# One operator each: the compiler then fuses what lies between them and leaves them whole. Nothing that differs between two
# networks of one architecture is a constant of the program, so it is compiled once.
FACTORS = "Tensor x, Tensor step, Tensor zero, Tensor weight, Tensor steps, Tensor? bias"
OPERATORS = (
    (
        convolution,
        convolution_shape,
        FACTORS + ", int[] stride, int[] padding, int[] dilation, int groups",
    ),
    (dense, dense_shape, FACTORS),
)
if not hasattr(torch.ops.pacd, "dense"):  # a reloaded module finds them there
    LIBRARY = torch.library.Library("pacd", "DEF")
    for f, shape, arguments in OPERATORS:
        LIBRARY.define(f"{f.__name__}({arguments}) -> Tensor")
        LIBRARY.impl(f.__name__, f, "CompositeExplicitAutograd")
        torch.library.register_fake(f"pacd::{f.__name__}", shape, lib=LIBRARY)


class Int8(nn.Module):
    """A convolution or dense layer on integers (Jacob et al., arXiv 1712.05877).

    Inputs become x / step, rounded, plus zero, cut to 0 .. 255, with step and zero from their measured range; weights
    round(w / step_c) in -127 .. 127, with a step for each output c. Up to ``EXACT`` products are summed exactly, in 32 bits.

    Parameters
    ----------
    layer : nn.Conv2d or nn.Linear
    low, high : float
        The range of its inputs.
    shape : tuple, optional
        (C, H, W) of the images that a dense layer gets unflattened.
    """

    def __init__(self, layer, low, high, shape=None):
        super().__init__()
        low, high = min(low, 0.0), max(high, 0.0)  # 0, the padding, is one of the steps
        step = (high - low) / 255 or 1.0
        zero = round(-low / step)
        self.step, self.inverse, self.zero = (
            torch.tensor(value, dtype=torch.float32) for value in (step, 1 / step, zero)
        )
        weight = layer.weight.detach().float()
        if shape is not None:
            weight = weight.view(-1, *shape).permute(0, 2, 3, 1).flatten(1)
        self.steps = (weight.abs().flatten(1).amax(1) / 127).clamp_min(1e-12)
        weight = (weight / self.steps.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)
        self.bias = None if layer.bias is None else layer.bias.detach().float()
        if isinstance(layer, nn.Conv2d):
            self.shape = list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups
            self.weight = torch.ops.onednn.qconv_prepack(
                weight, self.steps, step, zero, *self.shape, None
            )
            self.multiply = torch.ops.pacd.convolution
        else:
            self.shape = ()
            self.weight = torch.ops.onednn.qlinear_prepack(weight, None)
            self.multiply = torch.ops.pacd.dense

    def forward(self, x):
        x = ((x * self.inverse).round() + self.zero).clamp(0, 255).to(torch.uint8)
        return self.multiply(
            x, self.step, self.zero, self.weight, self.steps, self.bias, *self.shape
        )

    def __deepcopy__(self, memo):
        return self  # constant; packed weights cannot be copied


class MaxOfSlices(nn.Module):
    """Max pooling with windows side by side, as a maximum of strided slices, which the compiler fuses with its neighbours."""

    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, x):
        height, width = (n // self.side * self.side for n in x.shape[2:])
        return reduce(
            torch.maximum,
            [
                x[..., i : height : self.side, j : width : self.side]
                for i in range(self.side)
                for j in range(self.side)
            ],
        )


def quantised(model, images):
    """The network with integer convolutions and dense layers behind its affine first layers, for certifying on a CPU.

    Parameters
    ----------
    model : nn.Module
        (N, C, H, W) to logits, in eval mode; left as it is.
    images : Tensor of shape (M, C, H, W)
        What the ranges of the layers' inputs are measured on: images like those that the network will see, noise and
        all, but none of those certified.

    Returns
    -------
    nn.Sequential
        To be certified with ``precision="int8"``; it has no gradient. What cannot be replaced stays in float32.

    Raises
    ------
    ValueError
        If the images are not on a CPU with VNNI instructions, a weight or an activation is not finite, or nothing can be quantised.
    """
    check_device(images.device)
    first, rest = copy.deepcopy(split_affine(model))
    seen = {}

    def watch(layer, inputs):
        (x,) = inputs
        check_finite(x)
        low, high, _ = seen.get(layer, (0.0, 0.0, None))
        seen[layer] = min(low, x.min().item()), max(high, x.max().item()), x.shape[1:]

    for values in model.state_dict().values():
        check_finite(values)
    hooks = [layer.register_forward_pre_hook(watch) for layer in rest.modules()]
    with torch.inference_mode():
        for part in images.split(500):
            rest(first(part))
    for hook in hooks:
        hook.remove()
    network = nn.Sequential(*first, integer(rest, seen))
    if not is_quantised(network):
        raise ValueError(
            "precision must be float32 or bfloat16 for this network, which has no convolution or dense layer that can be quantised behind its affine first layers."
        )
    return network


@cache
def supported(device):
    """Whether the device sums 8-bit products without saturating: a CPU with VNNI instructions that are in use."""
    if str(device) != "cpu" or not torch.cpu._is_vnni_supported():
        return False
    ones = nn.Linear(64, 1, bias=False).requires_grad_(False)
    ones.weight.fill_(1.0)
    return abs(Int8(ones, 0.0, 1.0)(torch.ones(1, 64)).item() - 64) < 0.1


def check_device(device):
    """Raises ValueError as :func:`quantised` does."""
    if not supported(device):
        raise ValueError(
            "precision int8 needs device cpu, and a CPU with VNNI instructions; take float32 or bfloat16."
        )


def check_finite(values):
    """Whole numbers would hide what the certifier refuses in floats."""
    if not values.isfinite().all():
        raise ValueError("the model's weights and activations must be finite to be quantised.")


def integer(module, seen):
    """``module`` with the layers replaced that :class:`Int8` can be, given the range and shape of each one's inputs."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        return Int8(module, *seen[module][:2]) if can_be(module, seen) else module
    if isinstance(module, nn.MaxPool2d):
        plain = isinstance(module.kernel_size, int) and module.kernel_size == module.stride
        return (
            MaxOfSlices(module.kernel_size)
            if plain and (module.padding, module.dilation, module.ceil_mode) == (0, 1, False)
            else module
        )
    if isinstance(module, nn.Sequential):
        layers = []
        for before, layer in pairwise([None, *module]):
            shape = seen[before][2] if isinstance(before, nn.Flatten) and before in seen else ()
            if (
                isinstance(layer, nn.Linear)
                and can_be(layer, seen)
                and len(shape) == 3
                and prod(shape) == layer.in_features
            ):
                layers[-1] = Int8(layer, *seen[layer][:2], shape=shape)
            else:
                layers.append(integer(layer, seen))
        return nn.Sequential(*layers)
    for name, child in module.named_children():
        setattr(module, name, integer(child, seen))
    return module


def can_be(layer, seen):
    """Whether the layer was used, on vectors or images, with zeros for padding, and its sums fit."""
    if layer not in seen or layer.weight[0].numel() > EXACT:
        return False
    if isinstance(layer, nn.Linear):
        return len(seen[layer][2]) == 1
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def is_quantised(model):
    return isinstance(model, nn.Module) and any(
        isinstance(layer, Int8) for layer in model.modules()
    )
