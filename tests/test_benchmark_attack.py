"""The attack's benchmark counts what is computed, finds the first snapshot that reaches the drop, and continues where it was."""

import json
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import attack as benchmark
from benchmarks.evaluations import Count, unit_costs
from pacd import attack, losses
from pacd.hypergradient import SOLVERS
from pacd.models import make_model
from study.intervals import acr


@pytest.mark.parametrize("name", ["first_order", "approxgrad", "cg"])
def test_counted_evaluations_are_the_operations_of_the_attack(digits, name):
    """Two ways to count: images by kind times their unit costs, and every matrix product and convolution that torch runs."""
    loss, fresh = (
        partial(losses.gaussian, sigma=0.5),
        lambda seed: make_model("lenet", digits.shape, 10, seed),
    )
    x, y = digits.x_train[:20], digits.y_train[:20]
    units, _ = unit_costs(fresh(0), loss, x, y, 0.5)
    model = fresh(0)
    with FlopCounterMode(display=False) as one:
        torch.autograd.grad(
            loss(model, x, y, generator=torch.Generator()), list(model.parameters())
        )
    method, count = attack.method(name, benchmark.QUICK["options"]), Count(loss, fresh)
    with (
        FlopCounterMode(display=False) as total,
        patch.dict(SOLVERS, {method.solver: count.solver(SOLVERS[method.solver])}),
    ):
        attack.poison(
            digits, count.make_model, count.loss, method=method, steps=2, **benchmark.PROBLEM
        )
    gradients = total.get_total_flops() / (one.get_total_flops() / 20)
    assert count.evaluations(units) == pytest.approx(gradients, rel=0.01)
    if name != "first_order":  # a count without the products would be found
        assert count.evaluations({**units, "product": 0}) < 0.9 * gradients


def test_unit_costs_are_those_of_a_linear_network_by_hand(digits):
    """Linear, no hidden layer: the gradient takes 2 products (forward, weights); a Hessian product takes one to differentiate the forward
    pass and one for the weights, the mixed derivative two for the pixels: ratios of 1 to 2, the soft radius's exactly 1."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    units, seconds = unit_costs(
        model, partial(losses.gaussian, sigma=0.5), digits.x_train[:20], digits.y_train[:20], 0.5
    )
    assert units["gradient"] == units["radius"] == 1
    assert units["product"] == pytest.approx(1) and 1 <= units["mixed"] <= 2
    assert all(value > 0 for value in seconds.values())


@pytest.mark.parametrize(
    "drops, checked, first",
    [
        ([0.1, 0.2, 0.35, 0.1, 0.5], [0, 1, 2, 4], 2),
        ([0.1, 0.2, 0.29], [0, 1, 2], None),
        ([0.1, 0.3], [0, 1], 1),
        ([0.4], [0], 0),
    ],
)
def test_the_first_snapshot_that_reaches_the_drop_is_found(drops, checked, first):
    asked = []

    def measure(snapshot):
        asked.append(snapshot["step"])
        return {"drop": drops[snapshot["step"]]}

    measured, reached = benchmark.until_dropped(
        [{"step": step} for step in range(len(drops))], measure
    )
    assert asked == checked == [line["step"] for line in measured]
    assert reached is None if first is None else reached["step"] == first


def run(folder, digits, capsys):
    few = replace(digits, x_train=digits.x_train[::6], y_train=digits.y_train[::6])
    with patch.object(benchmark.data, "load", return_value=few):
        benchmark.main(
            [
                "--quick",
                "--controls",
                "uniform,class_wise_learned",
                "--rows",
                str(folder / "attack.csv"),
                "--cache",
                str(folder / "cache"),
            ]
        )
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1]), pd.read_csv(
        folder / "attack.csv"
    )


def test_quick_run_and_its_continuation(digits, tmp_path, capsys):
    line, rows = run(tmp_path, digits, capsys)
    assert {
        "drop_ours",
        "drop_ours_interval",
        "drop_best_control",
        "best_control",
        "drop_authors_setting",
    } <= set(line)
    assert (
        line["best_control"] in ("uniform", "class_wise_learned")
        and line["seeds"] == [0, 1]
        and line["dataset"] == "mnist5k"
    )
    for name, key in (("first_order", "ours"), ("approxgrad", "authors")):
        assert (line[f"gradient_evaluations_{key}"] is None) == (
            f"{name}: a drop of 30% was not reached within" in line["note"]
        )
    assert set(rows["kind"]) == {"unit", "snapshot", "control", "solver"}

    # The drop in the line is that of the certified rows.
    (cache,) = (tmp_path / "cache").iterdir()
    clean, poisoned = (
        acr(pd.concat(map(pd.read_csv, cache.glob(f"{name}-victim-*.csv"))))
        for name in ("clean", "first_order-2")
    )
    assert line["drop_ours"] == pytest.approx(1 - poisoned / clean, abs=1e-4)

    # MINRES with as many iterations as the reference is the reference; redrawing the authors' solve costs one more gradient a step.
    solver = rows[rows["kind"] == "solver"].groupby("case")[["evaluations", "cosine"]].mean()
    assert solver.loc["minres 5", "cosine"] > 1 - 1e-5 > solver.loc["identity", "cosine"]
    images = 2 * benchmark.QUICK["images"]
    assert solver.loc["adam 10 redrawn", "evaluations"] - solver.loc[
        "adam 10", "evaluations"
    ] == pytest.approx(11 * images)

    with (
        patch.object(attack, "poison", side_effect=AssertionError("crafted again")),
        patch.object(benchmark, "train", side_effect=AssertionError("trained again")),
    ):
        again, repeated = run(tmp_path, digits, capsys)
    assert again == line
    pd.testing.assert_frame_equal(
        rows[rows["kind"] == "snapshot"], repeated[repeated["kind"] == "snapshot"]
    )


def test_the_budget_stops_a_setting(digits, tmp_path):
    loss, fresh = (
        partial(losses.gaussian, sigma=0.5),
        lambda seed: make_model("lenet", digits.shape, 10, seed),
    )
    units = dict.fromkeys(("gradient", "radius", "product", "mixed"), 1.0)
    study = benchmark.SimpleNamespace(
        folder=tmp_path,
        splits=digits,
        loss=loss,
        make_model=fresh,
        units=units,
        budget=300,
        growth=1.25,
        first=1,
        options=benchmark.QUICK["options"],
    )
    snapshots = benchmark.craft("first_order", 50, study)
    assert [snapshot["evaluations"] >= 300 for snapshot in snapshots] == [False] * (
        len(snapshots) - 1
    ) + [True]
    assert (
        snapshots[-1]["step"] < 50
        and (tmp_path / f"first_order-{snapshots[-1]['step']}.npz").exists()
    )
    grown = [b["evaluations"] / a["evaluations"] for a, b in zip(snapshots, snapshots[1:-1])]
    assert min(grown, default=2) >= study.growth


@pytest.mark.parametrize(
    "option, value, sentence",
    [
        ("--seeds", "0", "--seeds must be two or more distinct whole numbers"),
        ("--seeds", "1,1", "--seeds must be two or more distinct whole numbers"),
        ("--growth", "1", "--growth must be above 1, not 1.0"),
        ("--controls", "uniform,chess", "--controls must be of uniform, checkerboard"),
    ],
)
def test_bad_options_are_refused(option, value, sentence, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--quick", option, value])
    assert sentence in capsys.readouterr().err
