"""A poison file without an attack, for tests of files."""

import math
from functools import cache

import torch

from pacd import data
from study.results import write_poison

BUDGET = {"target_class": 8, "eps_linf": 0.1}
load = cache(data.load)


def craft(path, **source):
    """Every second image of the class, moved at random and up to the border of the ball."""
    source = {"split_seed": 0, "train_size": None, **BUDGET, **source}
    splits = load(source["dataset"], None, source["split_seed"], source["train_size"])
    index = (splits.y_train == source["target_class"]).nonzero().flatten()[::2]
    change = (
        torch.rand(splits.x_train[index].shape, generator=torch.Generator().manual_seed(0)) * 2.2
        - 1.1
    )
    images = splits.x_train[index] + source["eps_linf"] * change.clamp(-1, 1)
    write_poison(
        path,
        splits,
        index,
        images.clamp(0, 1),
        {"parameters": source, "trace": [{"residual": math.nan}]},
    )
    return path
