"""Poison files: 8 bits inside the ball, and no poison is applied that breaks a rule."""

import json
import math

import numpy as np
import pytest
import torch
from crafting import BUDGET, craft, load

from pacd import data, poison_file
from pacd.poison_file import PoisonError
from study import grid
from study.results import write_poison
from study.settings import VictimSettings
from study.setup import changed_rows, poisoned


@pytest.fixture(scope="module")
def poison(tmp_path_factory):
    return craft(tmp_path_factory.mktemp("poison") / "p.npz", dataset="mnist5k", train_size=80)


@pytest.mark.parametrize(
    "eps, steps",
    [(0.0, 0), (0.1, 25), (8 / 255, 8), (0.031372549, 8), (25.4999 / 255, 25), (0.3, 76)],
)
def test_eight_bits_never_leave_the_ball(eps, steps):
    """Both ends of the ball, from every grey level.

    Rounding alone would give 26 steps for eps = 25.5 / 255, and 8 / 255 may be typed.
    """
    clean = torch.arange(256).view(256, 1, 1, 1) / 255
    for end in (-eps, eps):
        rounded = poison_file.to_8bit((clean + end).clamp(0, 1), clean, eps).astype(int)
        assert np.abs(rounded - np.arange(256).reshape(256, 1, 1, 1)).max() == steps
        assert steps / 255 <= eps + 1e-10


def test_eight_bits_are_the_nearest():
    clean = torch.full((1, 1, 1, 6), 100 / 255)
    images = clean + torch.tensor([0.4, 0.6, 1.6, -0.4, -0.6, -1.6]) / 255
    rounded = poison_file.to_8bit(images, clean, 0.1)
    assert rounded.flatten().tolist() == [100, 101, 102, 100, 99, 98]


@pytest.mark.parametrize("eight_bit", [True, False])
def test_the_images_of_the_file_take_their_places(poison, eight_bit):
    clean = load("mnist5k", None, 0, 80)
    with np.load(poison) as file:
        index, wanted = file["index"], file["images_8bit"] / 255 if eight_bit else file["images"]
    applied, facts = poison_file.apply(poison, clean, eight_bit)
    np.testing.assert_allclose(applied.x_train[index], wanted, rtol=1e-6)
    changed = (applied.x_train != clean.x_train).flatten(1).any(1)
    assert changed.nonzero().flatten().tolist() == sorted(index)
    assert facts["parameters"]["eps_linf"] == 0.1 and torch.equal(applied.y_train, clean.y_train)


def grey(target=8):
    """Ten images of one grey."""
    x, y = torch.full((10, 1, 2, 2), 128 / 255), torch.full((10,), target)
    return data.Splits(x, y, x, y, x, y)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["images", "images_8bit"])
def test_the_ball_has_two_sides(tmp_path, name, sign):
    """A pixel goes half a step, or one step, further than the budget, on either side."""
    splits, path = grey(), tmp_path / "p.npz"
    images = splits.x_train[:3] + sign * 0.1
    write_poison(path, splits, torch.arange(3), images, {"parameters": BUDGET})
    assert poison_file.apply(path, splits)[1]["poisoned"] == 3
    with np.load(path) as file:
        arrays = dict(file)
    too_far = {"images": 128 / 255 + sign * 0.102, "images_8bit": 128 + sign * 26}
    arrays[name][0, 0, 0, 0] = too_far[name]
    np.savez(path, **arrays)
    with pytest.raises(PoisonError, match="image leaves the eps ball"):
        poison_file.apply(path, splits)


def test_which_rows_change_and_that_some_do(poison, tmp_path):
    splits = data.load("mnist5k", train_size=80)
    changed = changed_rows(poison_file.apply(poison, splits)[0], splits)
    assert torch.equal(changed.nonzero().flatten(), torch.from_numpy(np.load(poison)["index"]))
    nothing = craft(
        tmp_path / "q.npz", dataset="mnist5k", train_size=80, eps_linf=0.001
    )  # less than an 8-bit step
    victim = grid.NOTEBOOK_DEFAULTS["victim"] | {"poison_file": str(nothing)}
    with pytest.raises(PoisonError, match="^poison_file must change at least one pixel"):
        poisoned(VictimSettings.check(victim), splits)
    floats = VictimSettings.check(victim | {"eight_bit": False})
    assert changed_rows(poisoned(floats, splits)[0], splits).any()


def test_manifest_states_the_distortion(tmp_path):
    """Ten steps at each of 784 pixels: L2 = 10 / 255 * 28, PSNR = 20 log10(25.5)."""
    splits = load("mnist5k", None, 0, 80)
    index = (splits.y_train == 8).nonzero().flatten()
    images = splits.x_train[index] + torch.where(splits.x_train[index] > 0.5, -10, 10) / 255
    write_poison(tmp_path / "p.npz", splits, index, images, {"parameters": BUDGET})
    measured = json.loads((tmp_path / "p.json").read_text())["distortion"]
    expected = {"linf": 10 / 255, "l2": 280 / 255, "psnr": 20 * math.log10(25.5)}
    assert {name: measured[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "tamper, sentence",
    [
        (
            lambda a, f, other: a["images"].__setitem__((0, 0, 0, 0), 0.2),
            r"a float image leaves the eps ball, by 0\.\d+",
        ),
        (
            lambda a, f, other: a["images_8bit"].__setitem__((0, 0, 0, 0), 26),
            "8-bit image leaves the eps ball",
        ),
        (lambda a, f, other: a["images"].__setitem__((0, 0, 0, 0), -0.01), r"outside \[0, 1\]"),
        (lambda a, f, other: a["images"].__setitem__((0, 0, 0, 0), np.nan), r"outside \[0, 1\]"),
        (lambda a, f, other: a["index"].__setitem__(0, a["index"][1]), "named twice"),
        (lambda a, f, other: a["index"].__setitem__(0, 80), "outside the training set"),
        (lambda a, f, other: a["index"].__setitem__(0, other), "outside class 8"),
        (
            lambda a, f, other: a.update(index=a["index"].astype(float)),
            "must be int64 1-d, .*, not float64 1-d",
        ),
        (
            lambda a, f, other: a.update(images_8bit=a["images_8bit"][:, 0]),
            "must be .* uint8 4-d, not .* uint8 3-d",
        ),
        (
            lambda a, f, other: (
                a.update({name: array[:0] for name, array in a.items()}) or f.update(poisoned=0)
            ),
            "numbers of rows",
        ),
        (lambda a, f, other: f.update(poisoned=f["poisoned"] - 1), "numbers of rows"),
        (lambda a, f, other: f.update(train_sha256="0"), "other training data"),
        (
            lambda a, f, other: f["parameters"].update(target_class="8"),
            "target_class must be the number of a class",
        ),
        (lambda a, f, other: f["parameters"].pop("eps_linf"), "not a readable poison file"),
        (lambda a, f, other: f.update(trace=[]), "changed after it was written"),
        (lambda a, f, other: a.update(more=np.zeros(1)), "changed after it was written"),
    ],
)
def test_a_tampered_poison_is_refused(poison, tmp_path, tamper, sentence):
    clean = load("mnist5k", None, 0, 80)
    with np.load(poison) as file:
        arrays = dict(file)
    facts = json.loads(poison.with_suffix(".json").read_text())
    tamper(arrays, facts, (clean.y_train != 8).nonzero()[0].item())
    np.savez(tmp_path / "p.npz", **arrays)
    (tmp_path / "p.json").write_text(json.dumps(facts))
    with pytest.raises(PoisonError, match=sentence):
        poison_file.apply(tmp_path / "p.npz", clean)
