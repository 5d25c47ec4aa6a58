"""A network of another make, from its weights to rows."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_named import MINE
from test_notebooks import papermill

from pacd import data
from study.intervals import paired_drop
from study.named import _found
from study.parameters import SettingsError
from study.rows import read_rows
from study.settings import CertifySettings
from study.setup import chosen_points

SETTINGS = {
    "dataset": "digits.npz",
    "architecture": "mine:network",
    "weights_file": "w.safetensors",
}
SETTINGS |= {"sigma": 0.25, "n": 100, "points": 20, "precision": "float32"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Bars of four classes, and a linear network that tells them by their place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    y = np.arange(80) % 4
    x = np.zeros((80, 8, 8), np.uint8)
    for row, label in enumerate(y):
        x[row, :, 2 * label : 2 * label + 2] = 255
    np.savez(tmp_path / "digits.npz", x_train=x, y_train=y, x_test=x[:24], y_test=y[:24])
    model = _found("mine:network")((1, 8, 8), 4)
    with torch.no_grad():
        model[1].bias.zero_()
        model[1].weight.copy_(torch.from_numpy(x[:4].reshape(4, 64)).float() / 255)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    return tmp_path


@pytest.mark.parametrize("order", ["sorted", "in turn", "shuffled"])
def test_points_of_all_classes_are_of_each_as_many(order):
    """The first 100 of test points that are sorted by class would be of two classes alone."""
    labels = torch.arange(500) // 50
    places = {"sorted": torch.arange(500), "in turn": torch.arange(500).view(10, 50).T.flatten()}
    places["shuffled"] = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    labels = labels[places[order]]
    for count in (10, 100, 250):
        points = chosen_points(labels, None, count)
        assert labels[points].bincount().tolist() == [count // 10] * 10
        assert (points.diff() > 0).all()
    for count in (None, 500, 900):
        assert torch.equal(chosen_points(labels, None, count), torch.arange(500))
    of_class = (labels == 8).nonzero().flatten()  # as rows that are kept have them
    assert torch.equal(chosen_points(labels, 8, 20), of_class[:20])
    assert torch.equal(chosen_points(labels, 8, None), of_class)


def test_rows_of_a_network_of_another_make(here):
    done = papermill("certify", here, **SETTINGS, rows_file="rows.csv")
    assert done.returncode == 0, done.stderr[-2000:]
    rows = read_rows(here / "rows.csv")
    assert list(rows["index"]) == list(range(20)) and set(rows["label"]) == {0, 1, 2, 3}
    assert (rows["prediction"] == rows["label"]).all() and rows["radius"].min() > 0.25
    assert (rows.filter(regex="^count_").sum(axis=1) == 100).all()
    facts = json.loads((here / "rows.json").read_text())
    assert set(facts["brought"]) == {"mine:network"} and facts["accuracy"]["0"]["all"] == 1
    assert rows["accuracy_all"].eq(1).all() and set(rows["trainer"]) == {"none"}
    assert len(facts["weights_sha256"]) == len(facts["test_sha256"]) == 64
    with pytest.raises(ValueError, match="at least two victim seeds"):  # one network, not none
        paired_drop(rows, rows)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"weights_file": "none.safetensors"}, "weights_file must be a .safetensors file (No such"),
        ({"architecture": "mlp"}, "weights_file must be of the network mlp, and is not (Error(s)"),
        ({"target_class": 9}, "target_class must be below 4 for digits.npz, not 9."),
    ],
)
def test_what_does_not_fit_is_one_sentence(here, change, sentence):
    done = papermill("certify", here, **{**SETTINGS, **change})
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode and sentence in said and not list(here.glob("*.csv"))


def test_its_parameters_are_checked():
    from study.grid import _notebook_defaults

    usual = _notebook_defaults("certify") | {"weights_file": "w.safetensors"}
    assert CertifySettings.check(usual).target_class is None
    for change, sentence in (
        (
            {"weights_file": "w.pt"},
            "weights_file must be the path of a file ending in .safetensors",
        ),
        (
            {"weights_file": None},
            "weights_file must be the path of a file ending in .safetensors, n",
        ),
        ({"target_class": -1}, "target_class must be None for all, or the number of a class, 0 or"),
        ({"n": 9}, "n must be 10 or more at alpha 0.001, or no point can be certified, not 9"),
        ({"architecture": "lenett"}, "architecture must be one of lenet, "),
        ({"trainer": "macer"}, "unknown parameter 'trainer'"),
    ):
        with pytest.raises(SettingsError) as error:
            CertifySettings.check(usual | change)
        assert str(error.value).startswith(sentence), str(error.value)


@pytest.mark.parametrize("size", [0, 4, 20, -1])
def test_damaged_weights_are_one_sentence(here, size):
    path = here / "w.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(SettingsError, match=r"^weights_file must be a \.safetensors file \("):
        trained_here()


def trained_here():
    from study.grid import _notebook_defaults
    from study.setup import trained

    return trained(CertifySettings.check(_notebook_defaults("certify") | SETTINGS))


def test_a_loaded_network_is_the_saved_one(here):
    splits, model = trained_here()
    assert not model.training and splits.classes == 4
    assert torch.equal(model[1].weight[2], data.load("digits.npz").x_test[2].flatten())
