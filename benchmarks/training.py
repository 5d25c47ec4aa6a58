"""Speed of training on a CPU, in float32 and in bfloat16.

``python -m benchmarks.training``, from the root of the repository; about two minutes. The
precisions take turns, so that other load meets both. Prints images a second, the ratio, and the
share of a large matrix product's arithmetic; writes rows; ends with one line of JSON.
"""

import argparse
import json
import time
from types import SimpleNamespace

import pandas as pd
import torch

from benchmarks.certify import long
from benchmarks.gpu import BATCH, TRAININGS, peak, seconds, training
from study.bfloat16 import in_bfloat16
from study.results import ROOT, manifest, write_rows

PRECISIONS = {"float32": lambda loss: loss, "bfloat16": in_bfloat16}
IMAGES = {"GA": 6000, "SmoothAdv": 2000, "MACER": 1000, "GA, ResNet-20": 1000}  # of an epoch
ROUNDS = 3


def measured():
    """A line for each training and precision: images a second, and operations a second."""
    lines = []
    for case in TRAININGS:
        number, taken = IMAGES[case], {name: [] for name in PRECISIONS}
        runs = {
            name: training(case, "cpu", 1, number, rounded) for name, rounded in PRECISIONS.items()
        }
        for name, (run, _) in [*runs.items()] * (1 + ROUNDS):
            taken[name].append(seconds(run))
        for name, (_, work) in runs.items():
            least = min(taken[name][1:])  # the first warms up
            lines.append((case, name, number / least, work * number / BATCH / least))
    return pd.DataFrame(lines, columns=["case", "precision", "images", "operations"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", default=ROOT / "data" / "benchmarks" / "training.csv")
    options, started = parser.parse_args(), time.time()
    torch.set_num_threads(options.threads)
    peaks = {name: peak(getattr(torch, name), "cpu", 2048) for name in PRECISIONS}
    table = measured()
    table["share of peak"] = table["operations"] / table["precision"].map(peaks)
    plain = table.groupby("case")["images"].transform("first")
    table["ratio"] = table["images"] / plain
    print(table.drop(columns="operations").round(2).to_string(index=False))
    table["case"] += ", " + table["precision"]
    speed = table.drop(columns="precision").set_index("case")
    rows = pd.concat([long("speed", speed), long("peak", pd.DataFrame({"operations": peaks}))])
    ran = {"batch": BATCH, "images": IMAGES, "rounds": ROUNDS, "threads": options.threads}
    settings = SimpleNamespace(device="cpu", model_dump=lambda: ran)
    write_rows(options.rows, rows, manifest(settings, started))
    print(json.dumps(speed["ratio"].filter(like="bfloat16").round(2).to_dict()))


if __name__ == "__main__":
    main()
