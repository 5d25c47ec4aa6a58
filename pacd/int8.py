"""Networks that multiply 8-bit integers, quantised once after training, to certify on a CPU.

The certified classifier is then the integer network, alone or before its float32 original. Ranges
and margin are fixed by other images and other noise than those that certify, so it is one function
of the noisy image like any other.
"""

import copy
from functools import cache
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import nn

from pacd.models import Largest, is_plain, side_by_side, split_affine, windows

EXACT = (2**31 - 1) // (255 * 127)  # most products whose sum cannot leave 32 bits
FLOAT_OUTPUT = 1.0, 0, torch.float32, "none", [], ""


def convolution(x, step, zero, weight, steps, bias, *shape):
    """PyTorch's integer convolution (oneDNN): uint8 images and packed int8 weights to float32."""
    scales = steps, torch.zeros(len(steps), dtype=torch.int32), bias
    arguments = x, step.item(), int(zero), weight, *scales, *shape, *FLOAT_OUTPUT
    return torch.ops.onednn.qconv_pointwise(*arguments)


def convolution_shape(x, step, zero, weight, steps, bias, *shape):
    """What the compiler has to know about it."""
    images = F.conv2d(x.float(), x.new_empty(weight.shape, dtype=torch.float32), None, *shape)
    return images.contiguous(memory_format=torch.channels_last)


def dense(x, step, zero, weight, steps, bias):
    """The same for a dense layer; images are flattened as they lie, (H, W, C)."""
    x = x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x
    scales = steps, torch.zeros(len(steps), dtype=torch.int32), bias
    arguments = x, step.item(), int(zero), weight, *scales, *FLOAT_OUTPUT
    return torch.ops.onednn.qlinear_pointwise(*arguments)


def dense_shape(x, step, zero, weight, steps, bias):
    return x.new_empty(len(x), len(steps), dtype=torch.float32)


# One operator each: the compiler then fuses what lies between them and leaves them whole. Nothing
# that differs between two networks of one architecture is a constant of the program, so it is
# compiled once.
FACTORS = "Tensor x, Tensor step, Tensor zero, Tensor weight, Tensor steps, Tensor? bias"
SHAPE = ", int[] stride, int[] padding, int[] dilation, int groups"
OPERATORS = (convolution, convolution_shape, FACTORS + SHAPE), (dense, dense_shape, FACTORS)
if not hasattr(torch.ops.pacd, "dense"):  # a reloaded module finds them there
    LIBRARY = torch.library.Library("pacd", "DEF")
    for f, shape_of, arguments in OPERATORS:
        LIBRARY.define(f"{f.__name__}({arguments}) -> Tensor")
        LIBRARY.impl(f.__name__, f, "CompositeExplicitAutograd")
        torch.library.register_fake(f"pacd::{f.__name__}", shape_of, lib=LIBRARY)


class Int8(nn.Module):
    """A convolution or dense layer on integers (Jacob et al., arXiv 1712.05877).

    Inputs become x / step, rounded, plus zero, cut to 0 .. 255, with step and zero from their
    measured range; weights round(w / step_c) in -127 .. 127, with a step for each output c. Up to
    ``EXACT`` products are summed exactly, in 32 bits.

    Parameters
    ----------
    layer : nn.Conv2d or nn.Linear
    low, high : float
        The range of its inputs.
    shape : tuple, optional
        (C, H, W) of the images that a dense layer gets unflattened.
    """

    def __init__(self, layer, low, high, shape=()):
        super().__init__()
        low, high = min(low, 0.0), max(high, 0.0)  # 0, the padding, is one of the steps
        step = (high - low) / 255 or 1.0
        zero = round(-low / step)
        constants = (torch.tensor(value, dtype=torch.float32) for value in (step, 1 / step, zero))
        self.step, self.inverse, self.zero = constants
        weight = layer.weight.detach().float()
        if shape:
            weight = weight.view(-1, *shape).permute(0, 2, 3, 1).flatten(1)
        self.steps = (weight.abs().flatten(1).amax(1) / 127).clamp_min(1e-12)
        weight = (weight / self.steps.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)
        self.bias = None if layer.bias is None else layer.bias.detach().float()
        self.multiply, self.shape = torch.ops.pacd.dense, ()
        if isinstance(layer, nn.Conv2d):
            self.multiply = torch.ops.pacd.convolution
            self.shape = list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups
            pack = torch.ops.onednn.qconv_prepack
            self.weight = pack(weight, self.steps, step, zero, *self.shape, None)
        else:
            self.weight = torch.ops.onednn.qlinear_prepack(weight, None)

    def forward(self, x):
        x = ((x * self.inverse).round() + self.zero).clamp(0, 255).to(torch.uint8)
        scales = self.step, self.zero, self.weight, self.steps, self.bias
        return self.multiply(x, *scales, *self.shape)

    def __deepcopy__(self, memo):
        return self  # constant; packed weights cannot be copied


UNUSED = 0.0, 0.0, ()  # of a layer: lowest and highest input, and the shape of one of them


def quantised(model, images):
    """The network with integer convolutions and dense layers behind its affine first layers.

    Parameters
    ----------
    model : nn.Module
        (N, C, H, W) to logits, in eval mode; left as it is.
    images : Tensor of shape (M, C, H, W)
        What the ranges of the layers' inputs are measured on: images like those that the network
        will see, noise and all, but none of those certified.

    Returns
    -------
    nn.Sequential
        To be given to :class:`pacd.votes.Votes` as ``quick``; it has no gradient. What cannot be
        replaced stays in float32, and the affine first layers are the model's own.

    Raises
    ------
    ValueError
        If the images are not on a CPU with VNNI instructions, a weight or an activation is not
        finite, or nothing can be quantised.
    """
    check_device(images.device)
    for values in model.state_dict().values():
        check_finite(values)
    first, rest = split_affine(model)
    rest = copy.deepcopy(rest)
    network = nn.Sequential(*first, integer(rest, measured(first, rest, images))).eval()
    if not any(isinstance(layer, Int8) for layer in network.modules()):
        lacking = "no convolution or dense layer behind its affine first layers can be quantised"
        raise ValueError(f"precision must be float32 for this network: {lacking}.")
    return network


@torch.inference_mode()
def safe_margin(model, network, images):
    """How far apart the two largest logits of the integer network must be to be beyond doubt.

    Four times the largest difference between a logit of the two networks on the images: a vote
    turns where two logits err towards each other, and other images may err by twice as much.
    """
    parts = images.split(500)
    return 4 * max((model(part) - network(part)).abs().max().item() for part in parts)


@torch.inference_mode()
def measured(first, rest, images):
    """Of each layer of the rest, over the images: lowest and highest input, and its shape."""
    inputs = {}

    def watch(layer, arguments):
        for x in arguments[:1]:  # a parametrisation is called without any
            check_finite(x)
            low, high, _ = inputs.get(layer, UNUSED)
            inputs[layer] = min(low, x.min().item()), max(high, x.max().item()), x.shape[1:]

    hooks = [layer.register_forward_pre_hook(watch) for layer in rest.modules()]
    for part in images.split(500):
        rest(first(part))
    for hook in hooks:
        hook.remove()
    return inputs


@cache
def supported(device):
    """Whether the device sums 8-bit products without saturating: a CPU with VNNI in use."""
    if str(device) != "cpu" or not torch.cpu._is_vnni_supported():
        return False
    ones = nn.Linear(64, 1, bias=False).requires_grad_(False)
    ones.weight.fill_(1.0)
    return abs(Int8(ones, 0.0, 1.0)(torch.ones(1, 64)).item() - 64) < 0.1


def check_device(device):
    """Raises ValueError as :func:`quantised` does."""
    if not supported(device):
        raise ValueError("precision int8 needs a CPU with VNNI instructions; take float32.")


def check_finite(values):
    """Whole numbers would hide what the certifier refuses in floats."""
    if not values.isfinite().all():
        raise ValueError("the model's weights and activations must be finite to be quantised.")


def integer(module, inputs):
    """``module`` with the layers replaced that can be, given each one's inputs.

    A layer of another type, or with a hook or a forward of its own, stays as it is.
    """
    if is_plain(module, nn.Conv2d, nn.Linear):
        return Int8(module, *inputs[module][:2]) if replaceable(module, inputs) else module
    if side_by_side(module):  # the compiler can fuse it so
        return nn.Sequential(windows(module.stride), Largest())
    if is_plain(module, nn.Sequential):
        return nn.Sequential(*integers(module, inputs))
    for name, child in module.named_children():
        setattr(module, name, integer(child, inputs))
    return module


def integers(layers, inputs):
    """The layers of a sequence; a dense one behind a Flatten takes its images unflattened."""
    replaced = []
    for before, layer in pairwise([None, *layers]):
        images = inputs.get(before, UNUSED)[2] if isinstance(before, nn.Flatten) else ()
        dense = is_plain(layer, nn.Linear) and replaceable(layer, inputs)
        if dense and len(images) == 3 and prod(images) == layer.in_features:
            replaced[-1] = Int8(layer, *inputs[layer][:2], shape=images)
        else:
            replaced.append(integer(layer, inputs))
    return replaced


def replaceable(layer, inputs):
    """Whether the layer was used, on vectors or images, zeros are its padding, and sums fit."""
    if layer not in inputs or layer.weight[0].numel() > EXACT:
        return False
    if isinstance(layer, nn.Linear):
        return len(inputs[layer][2]) == 1
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
