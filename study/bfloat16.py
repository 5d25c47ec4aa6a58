"""Products in bfloat16, in training and in votes; weights, losses and steps stay in float32."""

from functools import wraps

import torch
from torch import nn

from pacd.models import split_affine


class Rounded(nn.Module):
    """A network whose convolutions and products take bfloat16, by torch.autocast.

    It shares the weights of the network, is in its mode, and answers in float32.
    """

    def __init__(self, network):
        super().__init__()
        self.network, self.training = network, network.training

    def forward(self, x):
        # A cache of rounded weights would outlive a step that a GPU replays.
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            return self.network(x).float()


def rounded(model):
    """The network with products in bfloat16 behind its affine first layers.

    For :class:`pacd.votes.Votes`, to vote first on a GPU.
    """
    first, rest = split_affine(model)
    return nn.Sequential(*first, Rounded(rest)).eval()


def in_bfloat16(loss):
    """A trainer's loss (:mod:`pacd.losses`) of the network that is :class:`Rounded`."""

    @wraps(loss)
    def of_rounded(model, *batch, **told):
        return loss(Rounded(model), *batch, **told)

    return of_rounded
