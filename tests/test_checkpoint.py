"""A run that is killed and started again ends with the bits of one that was left alone."""

import json
import shutil
from functools import partial

import pandas as pd
import pytest
import torch
from certifying import certify
from scipy.stats import norm
from test_attack import problem_of
from test_notebooks import VICTIM, papermill

from pacd import data, losses
from pacd.counts import wins
from pacd.models import make_model
from pacd.train import NOTHING, train
from study import checkpoint, grid
from study.checkpoint import Checkpoint
from study.rows import read_rows
from study.settings import VictimSettings
from study.setup import augmentation, chosen_attack


class Killed(Exception):
    pass


def killed_after(calls, loss):
    """The loss, and after so many calls a kill."""
    left = iter(range(calls))

    def mortal(*arguments, **options):
        if next(left, None) is None:
            raise Killed
        return loss(*arguments, **options)

    return mortal


@pytest.fixture(scope="module")
def few():
    return data.load("mnist5k", train_size=300)


def in_pieces(compute, loss, path, pieces=(5, 13)):
    """What ``compute(loss, checkpoint)`` returns, killed once for each piece.

    There is a state at every chance.
    """
    for calls in pieces:
        with pytest.raises(Killed):
            compute(killed_after(calls, loss), Checkpoint(path, every=0))
    assert path.exists()
    counted = []
    last = Checkpoint(path, every=0)
    result = compute(lambda *a, **o: counted.append(1) or loss(*a, **o), last)
    assert last.seconds > 0
    last.remove()
    assert not path.exists()
    return result, len(counted)


@pytest.mark.parametrize(
    "architecture", ["lenet", "resnet20"]
)  # without and with batch norm's running statistics
def test_training_in_pieces(few, tmp_path, architecture):
    def compute(loss, kept):
        model = make_model(architecture, few.shape, 10, seed=1)
        setting = {
            "epochs": 6,
            "batch": 100,
            "lr": 1e-3,
            "weight_decay": 1e-3,
            "schedule": "cosine",
            "seed": 3,
        }
        history = train(
            model,
            few.x_train,
            few.y_train,
            loss,
            augment=augmentation("crop", few.shape),
            checkpoint=kept,
            **setting,
        )
        return history, model.state_dict()

    loss = partial(losses.gaussian, sigma=0.5)
    (history, weights), calls = in_pieces(compute, loss, tmp_path / "state.pt")
    whole_history, whole = compute(loss, NOTHING)
    assert history == whole_history and all(
        torch.equal(weights[name], whole[name]) for name in whole
    )
    assert calls < 6 * 3  # epochs of the first pieces were not repeated


@pytest.mark.parametrize(
    "name, options", [("first_order", {}), ("first_order", {"class_wise": True}), ("cg", {})]
)
def test_poison_in_pieces(few, tmp_path, name, options):
    small = {
        "clean_batch": 20,
        "poison_batch": 10,
        "val_batch": 10,
        "draws": 2,
        "warmup": 2,
        "inner_steps": 1,
        "restart": 2,
        "hyper_batch": 10,
    }
    chosen = {**small, "solve_batch": 10 if name == "cg" else 0, **options}

    def compute(loss, kept):
        attack = chosen_attack(name, chosen)
        return attack(problem_of(few, loss), steps=8, seed=2, checkpoint=kept)

    loss = partial(losses.gaussian, sigma=0.5)
    whole = compute(loss, NOTHING)
    (index, images, trace), calls = in_pieces(compute, loss, tmp_path / "state.pt", pieces=(9, 9))
    assert (
        torch.equal(index, whole[0])
        and torch.equal(images, whole[1])
        and trace[-1]["soft_radius"] == whole[2][-1]["soft_radius"]
    )
    assert (
        not torch.equal(images, few.x_train[index]) and len(trace) == 8 and calls == 12
    )  # half of it


def test_the_published_solver_in_pieces(few, tmp_path):
    """A new model, and with it all that goes on, every second epoch."""
    small = {"clean_batch": 20, "poison_batch": 10, "val_batch": 10, "draws": 2, "inner_steps": 1}

    def compute(loss, kept):
        attack = chosen_attack("approxgrad", {**small, "solve_steps": 2, "restart": 2})
        return attack(problem_of(few, loss), steps=8 * per_epoch, seed=2, checkpoint=kept)

    loss = partial(losses.gaussian, sigma=0.5)
    per_epoch = (few.y_train != 8).sum().item() // 20
    _, images, trace = compute(loss, NOTHING)
    a_model = 4 * 2 * per_epoch  # a step asks four times for the training loss
    found, calls = in_pieces(
        compute, loss, tmp_path / "state.pt", pieces=(a_model + 2, a_model + 2)
    )
    assert torch.equal(found[1], images) and found[2][-1] == trace[-1] and calls == 2 * a_model


def test_search_in_pieces(few, tmp_path):
    def compute(loss, kept):
        attack = chosen_attack("direct_search", {"epochs": 1, "draws": 2})
        return attack(problem_of(few, loss), steps=4, checkpoint=kept)

    loss = partial(losses.gaussian, sigma=0.5)
    (_, images, trace), calls = in_pieces(compute, loss, tmp_path / "state.pt", pieces=(4, 7))
    _, whole, whole_trace = compute(loss, NOTHING)
    assert torch.equal(images, whole) and [t["soft_radius"] for t in trace] == [
        t["soft_radius"] for t in whole_trace
    ]
    assert calls < 6 * 3  # six victims of three batches


@pytest.mark.parametrize("looks", [1, 3])
def test_certificates_in_pieces(few, tmp_path, looks):
    """Blocks of draws that were counted before a kill are not counted again."""
    model = make_model("lenet", few.shape, 10, 0).eval()
    x, y = few.x_test[:3], few.y_test[:3]
    options = {"n0": 100, "n": 3500, "batch": 300}

    def compute(loss, kept):
        return certify(lambda images: loss(images), x, y, 0.5, checkpoint=kept, **options)

    if looks > 1:  # a radius so close to the truth of one point that this one goes on to the end
        rate = wins(compute(model, NOTHING)) / 3500
        options["radii"] = [0.5 * norm.ppf(rate.max())]
    whole = compute(model, NOTHING)
    # A block is ten passes, and fourteen come before it.
    rows, calls = in_pieces(compute, model, tmp_path / "state.pt", pieces=(25, 25))
    pd.testing.assert_frame_equal(rows, whole)
    assert (rows["looks"] == looks).all() and rows["n"].max() == 3500 and calls == 14 + 10 + 5
    assert (rows["n"].min() < 3500) == (looks > 1)


def test_the_last_state_of_a_long_training_is_kept_whatever_its_age(tmp_path):
    state = Checkpoint(tmp_path / "state.pt", every=10)
    state.resume([], [])
    state.started -= 11  # eleven seconds ago
    state.keep([], [1])
    assert not state.path.exists()
    state.keep([], [1, 2], last=True)
    assert Checkpoint(state.path).resume([], []) == [1, 2]


def test_a_state_that_cannot_be_kept_warns_once_and_the_run_goes_on(few, tmp_path):
    (tmp_path / "full").write_text("no folder")
    kept = Checkpoint(tmp_path / "full" / "state.pt", every=0)
    loss = partial(losses.gaussian, sigma=0.5)
    recipe = {"epochs": 3, "batch": 100, "lr": 1e-3}
    model, alone = (make_model("mlp", few.shape, 10, 0) for _ in range(2))
    with pytest.warns(UserWarning, match="^no state can be kept at .*state.pt .*begin anew$") as w:
        train(model, few.x_train, few.y_train, loss, checkpoint=kept, **recipe)
    train(alone, few.x_train, few.y_train, loss, **recipe)
    kept.remove()
    assert len(w) == 1 and torch.equal(model[-1].weight, alone[-1].weight)


def test_a_short_run_leaves_no_file(few, tmp_path):
    model = make_model("lenet", few.shape, 10, 0)
    kept = Checkpoint(tmp_path / "state.pt")
    train(
        model,
        few.x_train,
        few.y_train,
        partial(losses.standard, sigma=0),
        epochs=1,
        batch=100,
        lr=1e-3,
        checkpoint=kept,
    )
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_no_state(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"PK half a file")
    assert Checkpoint(tmp_path / "state.pt").resume([torch.zeros(1)], ["start"]) == ["start"]


SETTINGS = VictimSettings.check({**grid.NOTEBOOK_DEFAULTS["victim"], **VICTIM})


def name(*data, **changes):
    return checkpoint.checkpoint(SETTINGS.model_copy(update=changes), *data).path


def test_a_state_is_found_by_its_own_run_alone():
    networks = [make_model("lenet", (1, 28, 28), 10, seed) for seed in (0, 0, 1)]
    names = [
        name("data", 0),
        name("data", 0, rows_file="elsewhere.csv", data_root="moved"),  # the first one's
        name("data", 0, lr=0.1),
        name("other data", 0),
        name("data", 1),
        *(name(network, "data") for network in networks),  # two are the same
        *(name(torch.tensor([0.1, value])) for value in (0.2, 0.2, 0.2001)),  # equal in 8 bits
    ]
    assert names[0] == names[1] and names[5] == names[6] and names[8] == names[9]
    assert len(set(names)) == len(names) - 3


def test_a_state_depends_on_every_file_of_the_method_and_on_no_other(monkeypatch, tmp_path):
    for part in ("pacd", "study"):
        shutil.copytree(checkpoint.ROOT / part, tmp_path / part)
    monkeypatch.setattr(checkpoint, "ROOT", tmp_path)
    names = [name("data", 0)]
    for path in sorted((tmp_path / "pacd").glob("*.py")):
        path.write_text(path.read_text() + "# edited\n")
        names.append(name("data", 0))
    assert len(set(names)) == len(names) > 10
    for path in (tmp_path / "study").glob("*.py"):
        path.write_text(path.read_text() + "# edited\n")
    assert name("data", 0) == names[-1]


def test_the_notebook_carries_on_where_it_was(tmp_path):
    """A planted state, of a network without its weights, is what is certified; then it is gone."""
    rows_file = str(tmp_path / "rows.csv")
    # Other points than the tests of the notebooks have, beside which this one may run.
    own = {"points": VICTIM["points"] + 1, "rows_file": rows_file}
    settings = SETTINGS.model_copy(update=own)
    splits = data.load("mnist5k", train_size=VICTIM["train_size"])
    planted = checkpoint.checkpoint(settings, splits.x_train, splits.y_train, 0)
    planted.every = 0

    def loss(model, x, y, **noise):
        return sum((10 * w).square().sum() for w in model.parameters()) - 1e4 * model[-1].bias[0]

    model = make_model("lenet", splits.shape, 10, 0)
    train(
        model, splits.x_train, splits.y_train, loss, epochs=3, batch=100, lr=1.0, checkpoint=planted
    )
    assert planted.path.exists()
    done = papermill("victim", tmp_path, **{**VICTIM, **own})
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_rows(rows_file)["radius"].max() == 0 and not planted.path.exists()
    assert json.loads((tmp_path / "rows.json").read_text())["parameters"]["epochs"] == 3
