"""Speed of certification against the loops that others use.

``python -m benchmarks.certify [--threads 2]``, from the root of the repository.

Noisy forward passes per second of Cohen's loop and of ART's (where it is installed), each at its
best batch, with the network as PyTorch lays it out and as we do; and of whole certificates by this
study, set-up and compiling included. Prints a table, writes rows for the book, and ends with one
line of JSON.
"""

import argparse
import json
import time
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pacd import data, losses
from pacd.certify import certify
from pacd.counts import counts_of
from pacd.int8 import Int8
from pacd.models import make_model, split_affine
from pacd.train import train
from pacd.votes import Votes
from study.results import ROOT, manifest, write_rows
from study.setup import quick_network

SIGMA, ROUNDS = 0.5, 3
POINTS, FEW, MANY = 100, 2000, 20_000  # points, and draws of each: 200,000 and two million passes
BATCHES = 50, 100, 250, 500, 1000
PASSES = 20_000  # of a loop whose rate does not depend on how many there are


def cohen(model, x, n, batch):
    """For each point its own noise, batch after batch, counted on the host (arXiv 1902.02918)."""
    counts = np.zeros((len(x), 10), int)
    for point in range(len(x)):
        for start in range(0, n, batch):
            copies = x[point].repeat(min(batch, n - start), 1, 1, 1)
            winners = model(copies + torch.randn_like(copies) * SIGMA).argmax(1)
            counts[point] += np.bincount(winners.cpu().numpy(), minlength=10)
    return counts


def art(model, x, n, batch):
    """The same with the Adversarial Robustness Toolbox."""
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    loss, shape = nn.CrossEntropyLoss(), tuple(x.shape[1:])
    said = {"sample_size": n, "scale": SIGMA, "alpha": 0.001}
    said |= {"device_type": "gpu" if x.is_cuda else "cpu"}
    smooth = PyTorchRandomizedSmoothing(model, loss, shape, 10, clip_values=None, **said)
    return smooth.certify(x.cpu().numpy(), n=n, batch_size=batch)


def ours(precision, n, model, splits, x, y):
    """Certificates as a notebook makes them, from the trained network to the rows."""
    asked = SimpleNamespace(precision=precision, sigma=SIGMA, n=n, compiled=None)
    pair = quick_network(asked, splits, len(x))(model)
    return certify(Votes(model, x, 10, **pair), y, SIGMA, n=n, n0=1)


def network(splits):
    """A LeNet trained with Gaussian augmentation."""
    model = make_model("lenet", splits.shape, 10, 0).to(splits.x_train.device)
    recipe = {"epochs": 20, "batch": 100, "lr": 0.001}
    loss = partial(losses.gaussian, sigma=SIGMA)
    train(model, splits.x_train, splits.y_train, loss, **recipe)
    return model.eval()


def in_rows(model, splits):
    """The same network as PyTorch lays it out by default."""
    plain = make_model("lenet", splits.shape, 10, 0).to(splits.x_train.device)
    plain.load_state_dict(model.state_dict())
    return plain.to(memory_format=torch.contiguous_format).eval()


def loops():
    """The loops of others that are installed."""
    known = {"Cohen's loop": cohen, "ART": art}
    return known if find_spec("art") else {"Cohen's loop": cohen}


def seconds(f):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    f()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


@torch.inference_mode()
def peak(precision, device, size=2048):
    """Operations per second of a large matrix product."""
    a = torch.randn(size, size, device=device)
    product = partial(torch.matmul, a, a)
    if precision == "int8":
        layer = Int8(nn.Linear(size, size), 0, 1)
        whole = torch.zeros(size, size, dtype=torch.uint8)
        told = layer.step, layer.zero, layer.weight, layer.steps, layer.bias
        product = partial(layer.multiply, whole, *told)
    return 2 * size**3 / min(seconds(product) for _ in range(4))


@torch.inference_mode()
def operations(model, x):
    """Floating-point operations of one forward pass of one image."""
    with FlopCounterMode(display=False) as counter:
        model(x[:1])
    return counter.get_total_flops()


@torch.inference_mode()
def measured(model, splits, x, y):
    """Seconds a pass of every variant in every round, ``{variant: [seconds]}``.

    Rounds take the variants in turn, so that other load meets all of them.
    """
    draws = PASSES // 20
    variants = {}
    for layout, net in (("", in_rows(model, splits)), (", channels_last", model)):
        for name, loop in loops().items():
            tried = {b: partial(loop, net, x[:20], draws, b) for b in BATCHES}
            variants[name + layout] = tried, PASSES
    for label, precision, n in (
        ("ours, 200,000 passes", "auto", FEW),
        ("ours, two million", "auto", MANY),
        ("ours, int8, two million", "int8", MANY),
    ):
        run = partial(ours, precision, n, model, splits, x, y)
        variants[label] = {None: run}, n * len(x)
    ours("mixed", FEW, model, splits, x[:1], y[:1])  # imports and the like
    times = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, (tried, passes) in variants.items():
            times[name].append(min(seconds(run) for run in tried.values()) / passes)
    return times


def table_of(times, peaks, work):
    """A line for each variant: rate, ratio to the faster loop of others, share of the peak."""
    table = pd.DataFrame(times).T  # (variants, rounds)
    others = [name for name in table.index if "ours" not in name]
    plain = table.loc[[name for name in others if "channels_last" not in name]].min()
    laid_out = table.loc[others].min()
    int8 = pd.Series({name: "int8" in name for name in table.index})
    best = int8.map({True: peaks.get("int8", np.nan), False: peaks["float32"]})
    done = pd.Series({name: work["whole" if name in others else "rest"] for name in table.index})
    ratio = plain / table
    return pd.DataFrame(
        {
            "passes per second": 1 / table.median(axis=1),
            "ratio": ratio.median(axis=1),
            "ratio, lowest round": ratio.min(axis=1),
            "ratio, highest round": ratio.max(axis=1),
            "ratio to channels_last": (laid_out / table).median(axis=1),
            "share of peak": done / table.median(axis=1) / best,
        }
    )


@torch.inference_mode()
def differing(model, splits, x, y):
    """Of how many votes, and how many are another class's than in float32, by precision."""
    counts = {p: counts_of(ours(p, FEW, model, splits, x, y)) for p in ("float32", "mixed", "int8")}
    exact = counts.pop("float32")
    said = {p: np.abs(votes - exact).sum() / 2 for p, votes in counts.items()}
    return pd.DataFrame({"votes": exact.sum(), "moved": said}).astype(float)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", default=ROOT / "data" / "benchmarks" / "certify.csv")
    options, started = parser.parse_args(), time.time()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    splits = data.load("mnist5k").to(device)
    model, some = network(splits), slice(None, None, len(splits.x_test) // POINTS)
    x, y = splits.x_test[some][:POINTS], splits.y_test[some][:POINTS]
    whole, first = operations(model, x), operations(split_affine(model)[0], x)
    work = {"whole": whole, "rest": whole - first + first / len(x)}
    known = ("float32", "int8") if device == "cpu" else ("float32",)
    peaks = {precision: peak(precision, device) for precision in known}
    speed = table_of(measured(model, splits, x, y), peaks, work)
    print(speed.round(3).to_string(), flush=True)
    moved = differing(model, splits, x, y) if device == "cpu" else pd.DataFrame()
    print(moved.to_string())
    tables = [long("speed", speed), long("moved", moved)]
    ran = {"threads": options.threads, "points": POINTS, "device": device, "sigma": SIGMA}
    settings = SimpleNamespace(device=device, model_dump=lambda: ran)
    write_rows(options.rows, pd.concat(tables), manifest(settings, started))
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    said = {"ratio": speed["ratio"], "ratio_to_channels_last": speed["ratio to channels_last"]}
    said = {key: column.round(2).to_dict() for key, column in said.items()}
    print(json.dumps({**said, "device": f"{name}, {options.threads} threads"}))


def long(kind, table):
    """Rows (kind, case, quantity, value) of a table with one line for each case."""
    rows = table.rename_axis("case").reset_index().melt("case", var_name="quantity")
    return rows.assign(kind=kind)


if __name__ == "__main__":
    main()
