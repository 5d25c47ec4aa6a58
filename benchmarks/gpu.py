"""Speed of training and certification on a GPU, beside plain steps and the card's own peaks.

``python -m benchmarks.gpu``, from the root of the repository; under 90 seconds on one H100. Without
a GPU it says so and ends.

Training steps per second of each trainer, step by step and replayed as a CUDA graph, start and
capture included; of several victims at once; noisy passes per second of the certifier, plainly and
compiled; and their arithmetic as a share of a large matrix product's. Prints a table, writes rows,
and ends with one line of JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.certify import long, operations, seconds
from pacd import data, losses
from pacd.certify import certify
from pacd.models import make_model
from pacd.train import Unkept, train
from pacd.votes import Votes
from study.results import ROOT, manifest, write_rows
from study.setup import augmentation, full_float32, quick_network

SIGMA, BATCH = 0.5, 200
IMAGES = 20_000  # of an epoch: a hundred steps
PLAIN, REPLAYED = 2, 20  # epochs that are timed
AT_ONCE = (8,)  # victims on the one card
POINTS, DRAWS = 500, 4000


def peak(dtype, device, size=8192):
    """Operations per second of a large matrix product."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / min(seconds(lambda: a @ a) for _ in range(5))


def bandwidth(device, size=2**30):
    """Bytes per second of a large copy, read and written."""
    a = torch.empty(size, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * size / min(seconds(lambda: b.copy_(a)) for _ in range(5))


def images(shape, device, number=IMAGES):
    """Digits, or noise of another shape, repeated to an epoch; their labels."""
    splits = data.load("mnist5k")
    rows = torch.arange(number) % len(splits.x_train)
    x, y = splits.x_train[rows], splits.y_train[rows]
    x = x if shape == splits.shape else torch.rand(number, *shape)
    return x.to(device), y.to(device)


TRAININGS = {
    "GA": ("gaussian", "lenet"),
    "SmoothAdv": ("smoothadv", "lenet"),
    "MACER": ("macer", "lenet"),
    "GA, ResNet-20": ("gaussian", "resnet20"),
}


def training(case, device, epochs, number=IMAGES, precision=lambda loss: loss):
    """``run()`` of a training of so many epochs, and its arithmetic in a step."""
    name, architecture = TRAININGS[case]
    shape = (3, 32, 32) if architecture == "resnet20" else (1, 28, 28)
    x, y = images(shape, device, number)
    loss = precision(partial(losses.TRAINERS[name], sigma=SIGMA))
    augment = augmentation("crop_flip", shape) if architecture == "resnet20" else None
    model = make_model(architecture, shape, 10, 0).to(device)
    recipe = {"epochs": epochs, "batch": BATCH, "lr": 1e-3, "augment": augment}
    generator = torch.Generator(device).manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        loss(model, x[:BATCH], y[:BATCH], generator=generator, epoch=None).backward()
    return partial(train, model, x, y, loss, **recipe), counter.get_total_flops()


def steps_per_second(case, device, graphs):
    """Steps per second of one victim, and their operations per second."""
    epochs = REPLAYED if graphs else PLAIN
    os.environ["PACD_GRAPHS"] = str(int(graphs))
    run, work = training(case, device, epochs)
    rate = epochs * IMAGES / BATCH / seconds(run)
    return rate, rate * work


class Clock(Unkept):
    """Counts the epochs that end between two times, and then ends the training."""

    def __init__(self, begin, end):
        self.begin, self.end, self.epochs = begin, end, 0

    def keep(self, parts, progress, last=False):
        now = time.time()
        if now > self.end:
            raise TimeoutError
        self.epochs += now > self.begin


def victim(begin, end, device="cuda"):
    """Steps per second that one of several victims makes between two times of the clock."""
    run, _ = training("GA", device, 10**6)
    clock = Clock(begin, end)
    with suppress(TimeoutError):
        run(checkpoint=clock)
    return clock.epochs * IMAGES / BATCH / (end - begin)


def together(number, start=20, length=4):
    """Steps per second of so many victims, each in a process of its own."""
    begin = time.time() + start
    command = [sys.executable, "-m", "benchmarks.gpu", "--victim", str(begin), str(begin + length)]
    pipes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    return sum(float(pipe.communicate()[0]) for pipe in pipes)


def passes_per_second(device, precision, compiled):
    """Noisy passes per second of the certifier, compiling left out; their operations per second."""
    x, y = images((1, 28, 28), device)
    model = make_model("lenet", (1, 28, 28), 10, 0).to(device)
    loss = partial(losses.gaussian, sigma=SIGMA)
    train(model, x, y, loss, epochs=2, batch=BATCH, lr=1e-3)  # a pair's speed hangs on its doubts
    asked = SimpleNamespace(precision=precision, sigma=SIGMA, n=DRAWS, compiled=compiled)
    pair = quick_network(asked, SimpleNamespace(x_val=x[-1000:]), POINTS)(model.eval())
    votes = Votes(model, x[:POINTS], compiled=compiled, **pair)
    run = partial(certify, votes, y[:POINTS], SIGMA, n=DRAWS, n0=1)
    run()
    rate = POINTS * DRAWS / min(seconds(run) for _ in range(2))
    return rate, rate * operations(model, x)


def measured(device):
    """A line for each case: its rate, its unit, and its operations per second."""
    lines = []
    for case in TRAININGS:
        for graphs, how in ((False, "plain"), (True, "replayed")):
            found = steps_per_second(case, device, graphs)
            lines.append((f"{case}, {how}", "steps", *found))
    one = next(work / rate for case, _, rate, work in lines if case == "GA, plain")
    for number in AT_ONCE:
        rate = together(number)
        lines.append((f"GA, {number} processes", "steps", rate, rate * one))
    for how, *told in (
        ("plain", "float32", False),
        ("compiled", "float32", True),
        ("compiled pair", "mixed", True),
    ):
        lines.append((f"certifier, {how}", "passes", *passes_per_second(device, *told)))
    return pd.DataFrame(lines, columns=["case", "unit", "per second", "operations"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--victim", nargs=2, type=float, help="begin and end: one of several")
    parser.add_argument("--rows", default=ROOT / "data" / "benchmarks" / "gpu.csv")
    options, started = parser.parse_args(), time.time()
    if not torch.cuda.is_available():
        print("no GPU: nothing was measured")
        return
    full_float32()
    if options.victim:
        print(victim(*options.victim))
        return
    peaks = {"float32": peak(torch.float32, "cuda"), "bfloat16": peak(torch.bfloat16, "cuda")}
    peaks["copy"] = bandwidth("cuda")
    table = measured("cuda").set_index("case")
    table["share of peak"] = table.pop("operations") / peaks["float32"]
    print(table.round(3).to_string())
    speed = table.drop(columns="unit")
    rows = pd.concat([long("speed", speed), long("peak", pd.DataFrame({"per second": peaks}))])
    ran = {"batch": BATCH, "images": IMAGES, "points": POINTS, "draws": DRAWS, "sigma": SIGMA}
    settings = SimpleNamespace(device="cuda", model_dump=lambda: ran)
    write_rows(options.rows, rows, manifest(settings, started))
    said = table["per second"].round().astype(int).to_dict()
    peaks = {f"peak, {name}": f"{value:.3g}" for name, value in peaks.items()}
    print(json.dumps({**said, **peaks, "device": torch.cuda.get_device_name()}))


if __name__ == "__main__":
    main()
