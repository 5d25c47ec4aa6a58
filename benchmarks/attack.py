"""Cost of the attack: ``python benchmarks/attack.py [--dataset mnist --train-size 10000 --data-root DIR] [--budget 20e6]
[--growth 1.25] [--controls uniform,...] [--quick]``.

Three questions. What does it cost until the ACR of victims trained from scratch has dropped by 30 %, for our setting and for the
authors'? What do both and the best control reach? How far is each solver's hypergradient from that of a solve to
convergence, and what does it cost? Cost is counted in gradient evaluations: one is one image through the forward and
backward pass of the inner problem. Prints tables, writes rows for the book, and ends with one line of JSON.

Snapshots and victims are kept in the cache as they come; a second call with the same options uses them. Crafting that was
cut off starts again, as an attack cannot be resumed in the middle.
"""

import argparse
import hashlib
import json
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pandas as pd
import torch

from benchmarks.evaluations import Count, clock, memory, unit_costs
from benchmarks.solvers import solver_errors
from pacd import attack, data, losses
from pacd import poison_file as files
from pacd.certify import certify
from pacd.controls import BASELINES, LEARNED
from pacd.hypergradient import SOLVERS
from pacd.models import make_model
from pacd.train import train
from study.intervals import acr, paired_drop
from study.results import ROOT, manifest, replacing, write_json, write_rows
from study.setup import chosen_attack

PROBLEM = {"sigma": 0.5, "eps_linf": 0.1, "target_class": 8}
DROP = 0.3  # the paper's claim
OURS, AUTHORS = "first_order", "approxgrad"
AUTHORS_STEPS = 50 * 55  # 50 epochs of 55 poison steps in their MNIST script
# What the cached pieces depend on.
SOURCES = "attack controls certify data votes hypergradient losses models poison_file smoothing train".split()
FULL = {
    "epochs": 10,
    "points": 500,
    "n": 1000,
    "first": 100_000,
    "images": 100,
    "reference": 200,
    "options": {},
}
QUICK = {
    "epochs": 3,
    "points": 10,
    "n": 100,
    "first": 1,
    "images": 10,
    "reference": 5,
    "train_size": 600,
    "seeds": [0, 1],
    "steps": 2,
    "budget": 1e4,
    "options": {
        "clean_batch": 40,
        "poison_batch": 20,
        "val_batch": 10,
        "draws": 2,
        "warmup": 2,
        "inner_steps": 1,
        "hyper_batch": 20,
        "solve_batch": 40,
    },
}


class Spent(Exception):
    """The budget is used up."""


def craft(name, steps, study):
    """Run one setting within the budget, with a snapshot each time the evaluations have grown by the factor ``growth``.

    Returns
    -------
    list of dict
        For each snapshot its step, evaluations, images of each kind, seconds and peak memory (MB) since the start.
    """
    kept, device = study.folder / f"{name}.json", study.splits.x_train.device
    if kept.exists():
        return json.loads(kept.read_text())
    count, snapshots = Count(study.loss, study.make_model), []
    memory(device, reset=True)
    now = SimpleNamespace(step=0, due=study.first, started=clock(device))

    def watch(step, index, images):
        now.step += 1
        evaluations, seconds = count.evaluations(study.units), clock(device) - now.started
        if evaluations >= min(now.due, study.budget) or now.step == steps:
            snapshots.append(
                {
                    "case": name,
                    "step": now.step,
                    "evaluations": evaluations,
                    "seconds": seconds,
                    "memory": memory(device),
                    **count.images,
                }
            )
            files.save(
                study.folder / f"{name}-{now.step}.npz",
                study.splits,
                index,
                images,
                {"parameters": PROBLEM},
            )
            now.due = study.growth * evaluations
            now.started = clock(device) - seconds  # saving is not part of the attack
        if evaluations >= study.budget:
            raise Spent

    method = attack.method(name, study.options)
    try:
        with patch.dict(SOLVERS, {method.solver: count.solver(SOLVERS[method.solver])}):
            attack.poison(
                study.splits,
                count.make_model,
                count.loss,
                method=method,
                steps=steps,
                seed=0,
                watch=watch,
                **PROBLEM,
            )
    except Spent:
        pass
    write_json(kept, snapshots)
    return snapshots


def control(name, study):
    """The poison file of a control; one that is learned takes as many steps as our setting."""
    path = study.folder / f"{name}-0.npz"
    if not path.exists():
        make = chosen_attack(name, study.options if name in LEARNED else {})
        index, images, _ = make(
            study.splits, study.make_model, study.loss, steps=study.steps, seed=0, **PROBLEM
        )
        files.save(path, study.splits, index, images, {"parameters": PROBLEM})


def kept(path, make):
    """The table at ``path``, made first where it is not there."""
    if not path.exists():
        with replacing(path) as temporary:
            make().to_csv(temporary, index=False)
    return pd.read_csv(path)


def victims(poison, study):
    """Certified rows of victims trained on the 8-bit poison file ``poison`` (None: clean data), one for each seed."""
    splits = study.splits
    points = (splits.y_test == PROBLEM["target_class"]).nonzero().flatten()[: study.points]

    def certified(seed):
        x = (
            files.apply(study.folder / f"{poison}.npz", splits)[0].x_train
            if poison
            else splits.x_train
        )
        model = study.make_model(seed)
        train(
            model,
            x,
            splits.y_train,
            study.loss,
            epochs=study.epochs,
            batch=100,
            lr=1e-3,
            schedule="cosine",
            seed=seed,
        )
        rows = certify(
            model.eval(),
            splits.x_test[points],
            splits.y_test[points],
            PROBLEM["sigma"],
            n=study.n,
            batch=study.batch,
            classes=splits.classes,
        )
        return rows.assign(seed=seed, index=points.cpu())

    return pd.concat(
        [
            kept(study.folder / f"{poison or 'clean'}-victim-{seed}.csv", partial(certified, seed))
            for seed in study.seeds
        ]
    )


def drop(poison, study):
    """ACR of the victims and its drop against clean ones (dict)."""
    rows = victims(poison, study)
    return {"acr": acr(rows), **paired_drop(victims(None, study), rows)._asdict()}


def until_dropped(snapshots, measure):
    """The snapshots in order, with ``measure(snapshot)``, up to the first that reaches the drop; then the last one.

    Returns
    -------
    measured : list of dict
    reached : dict or None
    """
    measured, reached = [], None
    for snapshot in snapshots:
        if reached is None or snapshot is snapshots[-1]:
            measured.append({**snapshot, **measure(snapshot)})
            if reached is None and measured[-1]["drop"] >= DROP:
                reached = measured[-1]
    return measured, reached


def study_of(options):
    """Data, networks and cache of a run: what its pieces need."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = {**vars(options), **(QUICK if options.quick else FULL)}
    splits = data.load(options.dataset, options.data_root, train_size=chosen["train_size"]).to(
        device
    )
    key = {
        name: chosen[name]
        for name in ("dataset", "train_size", "steps", "budget", "growth", "quick", "threads")
    } | {"device": device.type, **PROBLEM}
    code = b"".join((ROOT / "pacd" / f"{name}.py").read_bytes() for name in SOURCES)
    folder = Path(options.cache) / hashlib.sha256(json.dumps(key).encode() + code).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    loss = partial(losses.gaussian, sigma=PROBLEM["sigma"])
    fresh = lambda seed: make_model("lenet", splits.shape, splits.classes, seed).to(device)  # noqa: E731
    units, seconds = unit_costs(
        fresh(0), loss, splits.x_train[:100], splits.y_train[:100], PROBLEM["sigma"]
    )
    batch = 20_000 if device.type == "cuda" else 250
    return SimpleNamespace(
        **chosen,
        splits=splits,
        loss=loss,
        make_model=fresh,
        units=units,
        seconds=seconds,
        folder=folder,
        batch=batch,
        device=device,
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="mnist5k")
    parser.add_argument("--data-root")
    parser.add_argument("--train-size", type=int)
    parser.add_argument(
        "--seeds",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[0, 1, 2],
        help="victim seeds, such as 0,1,2",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=700,
        help="poison steps of our setting; the authors' has its own 2,750",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=20e6,
        help="gradient evaluations at which a setting is stopped",
    )
    parser.add_argument(
        "--growth",
        type=float,
        default=1.25,
        help="of the evaluations between two snapshots: the cost is known to this factor",
    )
    parser.add_argument(
        "--controls",
        type=lambda text: text.split(","),
        default=list(BASELINES),
        help="controls to compare with, such as uniform,checkerboard",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--quick", action="store_true", help="tiny, for tests; its numbers mean nothing"
    )
    parser.add_argument("--rows", default=ROOT / "data" / "benchmarks" / "attack.csv")
    parser.add_argument("--cache", default=ROOT / "data" / "downloads" / "benchmark" / "attack")
    options, started = parser.parse_args(arguments), time.time()
    if len(set(options.seeds)) < max(2, len(options.seeds)):
        parser.error(f"--seeds must be two or more distinct whole numbers, not {options.seeds}")
    if options.growth <= 1:
        parser.error(f"--growth must be above 1, not {options.growth}")
    if not set(options.controls) <= set(BASELINES):
        parser.error(
            f"--controls must be of {', '.join(BASELINES)}, not {','.join(options.controls)}"
        )
    torch.set_num_threads(options.threads)
    study = study_of(options)
    tables = {
        "unit": pd.DataFrame({"operations": study.units, "time": study.seconds})
        .rename_axis("case")
        .reset_index()
    }
    print(tables["unit"].round(2).to_string(index=False), flush=True)

    measured, reached, final, notes = [], {}, {}, []
    for name, steps in (
        (OURS, study.steps),
        (AUTHORS, study.steps if study.quick else AUTHORS_STEPS),
    ):
        snapshots = craft(name, steps, study)
        lines, reached[name] = until_dropped(
            snapshots, lambda snapshot: drop(f"{snapshot['case']}-{snapshot['step']}", study)
        )
        measured, final[name] = measured + lines, lines[-1]
        if reached[name] is None:
            notes.append(
                f"{name}: a drop of {DROP:.0%} was not reached within {lines[-1]['evaluations']:,.0f} gradient evaluations ({lines[-1]['step']} poison steps)"
            )
        print(
            pd.DataFrame(lines)[
                ["case", "step", "evaluations", "seconds", "acr", "drop", "low_seeds", "high_seeds"]
            ]
            .round(3)
            .to_string(index=False),
            flush=True,
        )
    tables["snapshot"] = pd.DataFrame(measured)

    for name in study.controls:
        control(name, study)
    tables["control"] = pd.DataFrame(
        [{"case": name, **drop(f"{name}-0", study)} for name in study.controls]
    )
    print(tables["control"].round(3).to_string(index=False), flush=True)
    tables["solver"] = kept(
        study.folder / f"solvers-{'-'.join(map(str, study.seeds))}.csv",
        lambda: solver_errors(study, **PROBLEM),
    )
    print(
        tables["solver"]
        .groupby(["damping", "case"], sort=False)
        .mean(numeric_only=True)
        .drop(columns="seed")
        .round(3)
        .to_string(),
        flush=True,
    )

    chosen = {
        name: getattr(study, name)
        for name in (
            "dataset",
            "train_size",
            "seeds",
            "steps",
            "budget",
            "growth",
            "controls",
            "threads",
            "quick",
            "epochs",
            "points",
            "n",
        )
    }
    device = (
        torch.cuda.get_device_name()
        if study.device.type == "cuda"
        else f"CPU, {options.threads} threads"
    )
    facts = manifest(
        SimpleNamespace(device=study.device.type, model_dump=lambda: {**chosen, **PROBLEM}),
        started,
        notes=notes,
        units=study.units,
    )
    write_rows(
        options.rows, pd.concat([table.assign(kind=kind) for kind, table in tables.items()]), facts
    )
    best = tables["control"].loc[tables["control"]["drop"].idxmax()]
    ours, authors = (reached[name] or {} for name in (OURS, AUTHORS))
    print(
        json.dumps(
            {
                "drop_ours": round(final[OURS]["drop"], 4),
                "drop_ours_interval": [round(final[OURS][end], 4) for end in ("low", "high")],
                "drop_best_control": round(best["drop"], 4),
                "best_control": best["case"],
                "drop_authors_setting": round(final[AUTHORS]["drop"], 4),
                "gradient_evaluations_ours": ours and round(ours["evaluations"]) or None,
                "gradient_evaluations_authors": authors and round(authors["evaluations"]) or None,
                "seconds_ours": ours and round(ours["seconds"], 1) or None,
                "seconds_authors": authors and round(authors["seconds"], 1) or None,
                "evaluations_spent": {name: round(final[name]["evaluations"]) for name in final},
                "peak_memory_mb": {name: round(final[name]["memory"]) for name in final},
                "note": "; ".join(notes),
                "dataset": study.dataset,
                "train_size": len(study.splits.x_train),
                "seeds": study.seeds,
                "device": device,
            }
        )
    )


if __name__ == "__main__":
    main()
