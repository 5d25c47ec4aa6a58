"""Speed and cost of certification against the plain method.

``python -m benchmarks.certify [--threads 2] [--points 50]``, from the root of the repository.

Three questions. Noisy forward passes per second of the plain loop, and after each trick. Draws per
point until certified accuracy at half a sigma is decided. Error of the ACR predicted from 2,000
draws a point against the one certified with 100,000. Prints tables, writes rows for the book, and
ends with one line of JSON.
"""

import argparse
import json
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from pacd import data, losses
from pacd.certify import certify, noise_blocks
from pacd.int8 import Int8, supported
from pacd.models import make_model, split_affine
from pacd.train import train
from pacd.votes import PRECISIONS, Votes, logits
from study.intervals import acr, certified_accuracy
from study.predict import predict_acr
from study.results import ROOT, manifest, write_rows
from study.sequential import decide, decisions
from study.setup import certified_network

CACHE = ROOT / "data" / "downloads" / "benchmark"
SIGMAS = (0.25, 0.5, 0.75)
EXACT = {"n": 100_000, "precision": "bfloat16"}
ROUNDS, POINTS, DRAWS = 5, 20, 1000  # of the speed measurement
AGREE = 10_000  # draws a point of the ACR in each precision
# Each adds one trick to those before it; the last one comes instead of bfloat16.
TRICKS = {
    "shared noise, cached first layers, channels_last": {"compiled": False},
    "+ compiled": {"compiled": True},
    "+ bfloat16": {"compiled": True, "precision": "bfloat16"},
    "+ int8": {"compiled": True, "precision": "int8"},
}


def plain(model, x, sigma, n, batch=1000, classes=10):
    """The usual loop: for each point its own noise, batch after batch, counted on the host."""
    counts = np.zeros((len(x), classes), int)
    for point in range(len(x)):
        for start in range(0, n, batch):
            copies = x[point].repeat(min(batch, n - start), 1, 1, 1)
            predictions = model(copies + torch.randn_like(copies) * sigma).argmax(1)
            counts[point] += np.bincount(predictions.cpu().numpy(), minlength=classes)
    return counts


def network(splits, sigma, device):
    """A LeNet trained with Gaussian augmentation, from the cache where it was trained before."""
    model, path = (
        make_model("lenet", splits.shape, splits.classes, 0).to(device),
        CACHE / f"gaussian-{sigma}.pt",
    )
    if path.exists():
        model.load_state_dict(torch.load(path, map_location=device))
    else:
        train(
            model,
            splits.x_train,
            splits.y_train,
            partial(losses.gaussian, sigma=sigma),
            epochs=20,
            batch=100,
            lr=0.001,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    return model.eval()


def precisions(model, splits, sigma, device):
    """The networks that are certified, one for each precision that the device has."""
    known = [name for name in PRECISIONS if name != "int8" or supported(device)]
    return {name: certified_network(name, splits, sigma)(model) for name in known}


def seconds(f):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    f()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def peak(precision, device, size=2048):
    """Operations per second of a large matrix product."""
    a, b = (torch.randn(size, size, device=device).to(PRECISIONS[precision]) for _ in range(2))

    def product():
        return a @ b

    if precision == "int8":
        layer, whole = (
            Int8(torch.nn.Linear(size, size), 0, 1),
            torch.zeros(size, size, dtype=torch.uint8),
        )

        def product():
            return layer.multiply(
                whole, layer.step, layer.zero, layer.weight, layer.steps, layer.bias
            )

    return 2 * size**3 / min(seconds(product) for _ in range(4))


def operations(model, x):
    """Floating-point operations of one forward pass of one image."""
    with FlopCounterMode(display=False) as counter:
        model(x[:1])
    return counter.get_total_flops()


@torch.inference_mode()
def speed(networks, x, sigma, batch):
    """Noisy passes per second of every variant.

    In rounds that take them in turn, so that other load meets all of them.
    """
    x, model = x[:POINTS], networks["float32"]
    contiguous = (
        make_model("lenet", x.shape[1:], 10, 0)
        .to(x.device, memory_format=torch.contiguous_format)
        .eval()
    )
    contiguous.load_state_dict(model.state_dict())
    every, first = operations(model, x), operations(split_affine(model)[0], x)
    points, noise = (
        torch.arange(len(x), device=x.device),
        partial(noise_blocks, x.shape[1:], sigma, DRAWS, (0, 1), x.device),
    )
    variants, precision = (
        {"plain": lambda: plain(contiguous, x, sigma, DRAWS)},
        {"plain": "float32"},
    )
    for name, tricks in TRICKS.items():
        precision[name] = tricks.get("precision", "float32")
        if precision[name] in networks:
            votes = Votes(networks[precision[name]], x, 10, batch=batch, **tricks)
            variants[name] = lambda votes=votes: [votes(block, points) for block in noise()]
    for run in variants.values():
        run()
    times, peaks = {name: [] for name in variants}, {name: [] for name in networks}
    for _ in range(ROUNDS):
        for name, values in peaks.items():
            values.append(peak(name, x.device))
        for name, run in variants.items():
            times[name].append(seconds(run))
    table = pd.DataFrame(times).T / (len(x) * DRAWS)  # seconds a pass; (variants, rounds)
    ratio = table.loc["plain"] / table
    done = pd.Series(every - first + first / len(x), index=table.index).where(
        table.index != "plain", every
    )
    best = pd.Series({name: np.max(peaks[precision[name]]) for name in variants})
    return pd.DataFrame(
        {
            "samples per second": 1 / table.median(axis=1),
            "ratio": ratio.median(axis=1),
            "ratio, lowest round": ratio.min(axis=1),
            "ratio, highest round": ratio.max(axis=1),
            "share of peak": done / table.median(axis=1) / best,
        }
    )


@torch.inference_mode()
def agreement(networks, x, y, sigma, batch):
    """For each precision the ACR, and the share of votes equal to the bare float32 forward's.

    These are single votes on the same noise.
    """
    (noise,) = noise_blocks(x.shape[1:], sigma, 200, (9, 1), x.device)
    bare = torch.stack([networks["float32"](image + noise).argmax(1) for image in x])
    said = {}
    for precision, network in networks.items():
        votes = Votes(network, x, 10, precision=precision)
        fast = torch.stack(
            [logits(*votes.network, image[None], votes.lift(noise)).argmax(1) for image in votes.x]
        )
        said[f"votes equal, {precision}"] = (fast == bare).float().mean().item()
        votes = Votes(network, x, 10, precision=precision, batch=batch)
        said[f"ACR, {precision}"] = acr(certify(votes, y, sigma, n=AGREE))
    return said


def exact(model, x, y, sigma, device, batch):
    """The rows of 100,000 draws a point, kept in the cache because they take minutes."""
    path = CACHE / f"gaussian-{sigma}-{len(x)}-{EXACT['n']}-{EXACT['precision']}.csv"
    if not path.exists():
        votes = Votes(model, x, 10, precision=EXACT["precision"], batch=batch)
        certify(votes, y, sigma, n=EXACT["n"]).to_csv(path, index=False)
    return pd.read_csv(path)


def costs(model, splits, sigma, points, device, batch):
    """What deciding and predicting cost and say, beside the exact rows."""
    # Equally many of each class.
    some = torch.arange(0, len(splits.x_test), len(splits.x_test) // points)
    few = splits.x_test[some], splits.y_test[some]
    rows, radius = exact(model, *few, sigma, device, batch), 0.5 * sigma
    votes_at = partial(Votes, model, classes=10, precision=EXACT["precision"], batch=batch)
    decided = decide(votes_at(splits.x_test), splits.y_test, sigma, [radius])
    cheap = certify(votes_at(few[0]), few[1], sigma, n=1900, n0=100, seed=1)
    prediction = predict_acr(cheap, EXACT["n"])
    line = decisions(decided, [radius]).iloc[0]
    shared = decisions(decided.iloc[some], [radius])["certified"][0]
    return {
        "ACR, certified, n = 100,000": acr(rows),
        "ACR, predicted": prediction.predicted_acr,
        "predicted, low": prediction.low,
        "predicted, high": prediction.high,
        "prediction error": prediction.predicted_acr / acr(rows) - 1,
        "fewer evaluations, predicted": EXACT["n"] / 2000,
        "points, exact": points,
        "points, decided": len(decided),
        "evaluations per point, decided": (decided["n0"] + decided["n"]).mean(),
        "fewer evaluations, decided": EXACT["n"] / (decided["n0"] + decided["n"]).mean(),
        "certified at sigma / 2, decided": line["certified"],
        "undecided": line["undecided"],
        "certified at sigma / 2, exact points": certified_accuracy(rows, [radius])[0],
        "certified at sigma / 2, decided, exact points": shared,
        "wrong guesses": (rows["guess"] != rows["label"]).mean(),
    }


def long(kind, table):
    """Rows (kind, case, quantity, value) of a table with one line for each case."""
    return (
        table.rename_axis("case").reset_index().melt("case", var_name="quantity").assign(kind=kind)
    )


def measured(options, device, batch):
    """The tables of the three questions, printed as they come: speed, agreement and cost."""
    splits = data.load("mnist5k").to(device)
    models = {sigma: network(splits, sigma, device) for sigma in SIGMAS}
    networks = {sigma: precisions(model, splits, sigma, device) for sigma, model in models.items()}
    fast = speed(networks[0.5], splits.x_test[:: len(splits.x_test) // POINTS], 0.5, batch)
    print(fast.round(3).to_string(), flush=True)
    some, equal, cost = (splits.x_test[::10], splits.y_test[::10]), {}, {}
    for sigma in SIGMAS:
        equal[f"sigma {sigma}"] = agreement(networks[sigma], *some, sigma, batch)
    equal = pd.DataFrame(equal).T
    print(equal.to_string(), flush=True)
    for sigma, model in models.items():
        cost[f"sigma {sigma}"] = costs(model, splits, sigma, options.points, device, batch)
    cost = pd.DataFrame(cost).T
    print(cost.T.round(4).to_string())
    return {"speed": fast, "agreement": equal, "cost": cost}


def summary(fast, cost, device, threads):
    """The line of JSON at the end."""
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {
        "speedup_exact": round(fast["ratio"].iloc[-1], 2),
        "speedup_exact_of": fast.index[-1],
        "speedup_exact_float32": round(fast["ratio"]["+ compiled"], 2),
        "speedup_exact_bfloat16": round(fast["ratio"]["+ bfloat16"], 2),
        "speedup_by_trick": fast["ratio"].round(2).to_dict(),
        "fewer_evaluations_decide": round(cost["fewer evaluations, decided"].min(), 1),
        "acr_prediction_error": round(cost["prediction error"].abs().max(), 4),
        "device": f"{name}, {threads} threads",
    }


def parsed():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    points = "points certified with 100,000 draws"
    parser.add_argument("--points", type=int, default=50, help=points)
    parser.add_argument("--rows", default=ROOT / "data" / "benchmarks" / "certify.csv")
    return parser.parse_args()


def main():
    options, started = parsed(), time.time()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = 20_000 if device == "cuda" else 500
    tables = measured(options, device, batch)
    chosen = {"threads": options.threads, "points": options.points, "batch": batch}
    chosen |= {"device": device, "alpha": 0.001, **EXACT}
    settings = SimpleNamespace(device=device, model_dump=lambda: chosen)
    rows = pd.concat([long(kind, table) for kind, table in tables.items()])
    write_rows(options.rows, rows, manifest(settings, started))
    print(json.dumps(summary(tables["speed"], tables["cost"], device, options.threads)))


if __name__ == "__main__":
    main()
