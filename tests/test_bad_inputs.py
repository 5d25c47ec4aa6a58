"""Bad inputs of every kind, each with the sentence that refuses it before any computing."""

import numpy as np
import pytest
import torch
from test_intervals import table

from pacd import data
from pacd.certify import certify
from pacd.certify import check as check_certify
from pacd.data import DataError
from pacd.poison_file import PoisonError
from pacd.votes import Votes
from study import export, grid, run, verify
from study.intervals import paired_drop, recertify
from study.parameters import SettingsError
from study.setup import chosen_attack, trainer

NAN, INF = float("nan"), float("inf")
COUNT = "must be a whole number from 1 to a billion, not"
POSITIVE = "must be a number above 0, at most a million, not"
EPS = "eps_linf must be a number between 0 and 1, pixel units, not"
SEEDS = "seeds must be one or more distinct whole numbers from 0 to a billion, such as 0,1,2, not"
PATH = {"poison_file": "p.npz"}

OF_NOTEBOOKS = [
    ("victim", {"sgima": 0.25}, "unknown parameter 'sgima'; did you mean 'sigma'?"),
    ("victim", {"zzz": 0.25}, "unknown parameter 'zzz'; known: dataset, "),
    ("victim", {"sigma": 0.0}, f"sigma {POSITIVE} 0.0"),
    ("victim", {"sigma": NAN}, f"sigma {POSITIVE} nan"),
    ("victim", {"sigma": "nan"}, f"sigma {POSITIVE} 'nan'"),
    ("victim", {"sigma": INF}, f"sigma {POSITIVE} inf"),
    ("victim", {"sigma": "big"}, f"sigma {POSITIVE} 'big'"),
    ("victim", {"sigma": "0,25"}, f"sigma {POSITIVE} '0,25'"),
    ("victim", {"sigma": "1/4"}, f"sigma {POSITIVE} '1/4'"),
    ("victim", {"sigma": [0.5]}, f"sigma {POSITIVE} [0.5]"),
    ("victim", {"sigma": None}, f"sigma {POSITIVE} None"),
    ("victim", {"lr": 2e6}, f"lr {POSITIVE} 2000000.0"),
    ("victim", {"lr": "-1e-3"}, f"lr {POSITIVE} '-1e-3'"),
    ("victim", {"weight_decay": -1.0}, "weight_decay must be a number from 0 to a million, not"),
    ("victim", {"alpha": 1.0}, "alpha must be a failure probability between 0 and 1, not 1.0"),
    ("victim", {"alpha": 0}, "alpha must be a failure probability between 0 and 1, not 0"),
    ("victim", {"n": 9}, "n must be 10 or more at alpha 0.001, or no point can be certified"),
    ("victim", {"n": 13, "alpha": 1e-4}, "n must be 14 or more at alpha 0.0001"),
    ("victim", {"n": 15, "empirical_steps": 1}, "n must be 16 or more at alpha 0.001, or no attac"),
    ("victim", {"n": 1074, "alpha": 5e-324}, "n must be 1075 or more at alpha 4.94066e-324, or no"),
    ("victim", {"n": 0}, f"n {COUNT} 0"),
    ("victim", {"n": True}, f"n {COUNT} True"),
    ("victim", {"n": 100.5}, f"n {COUNT} 100.5"),
    ("victim", {"n": "1e2.5"}, f"n {COUNT} '1e2.5'"),
    ("victim", {"n": 1e22}, f"n {COUNT} 1e+22"),
    ("victim", {"n": "(" * 500}, f"n {COUNT} '((("),
    ("victim", {"n": "9" * 5000}, f"n {COUNT} '999"),
    ("victim", {"n0": -1}, f"n0 {COUNT} -1"),
    ("victim", {"epochs": "__import__('os')"}, f"epochs {COUNT} \"__import__('os')\""),
    ("victim", {"batch": 0.5}, f"batch {COUNT} 0.5"),
    ("victim", {"trainer": "gausian"}, "trainer must be one of standard, "),
    ("victim", {"trainer": ["macer"]}, "trainer must be one of standard, "),
    ("victim", {"seeds": "0,x"}, f"{SEEDS} '0,x'; the form that works: -y '{{seeds: [value, val"),
    ("victim", {"seeds": "[0, 1"}, f"{SEEDS} '[0, 1'; the form that works: -y "),
    ("victim", {"seeds": "0 1"}, f"{SEEDS} '0 1'; the form that works: -y "),
    ("victim", {"seeds": []}, f"{SEEDS} []"),
    ("victim", {"seeds": [1, 1]}, f"{SEEDS} [1, 1]"),
    ("victim", {"seeds": [1, 1.0]}, f"{SEEDS} [1, 1.0]"),
    ("victim", {"seeds": [0, 2**64]}, f"{SEEDS} [0, 18446744073709551616]"),
    ("victim", {"seeds": True}, f"{SEEDS} True"),
    ("victim", {"eight_bit": "yes"}, "eight_bit must be True"),
    ("victim", {"stop_wrong": 1}, "stop_wrong must be True"),
    ("victim", {"compiled": "maybe"}, "compiled must be None to compile where it pays, True or"),
    ("victim", {"poison_file": "poison.zip"}, "poison_file must be None for clean data, or the "),
    ("victim", {"rows_file": "rows"}, "rows_file must be None or the path to write, ending in .c"),
    (
        "victim",
        {"poison_file": "a/b.npz", "rows_file": "a/b.csv"},
        "rows_file must not be 'a/b.csv': its manifest would take the place of the poison file's",
    ),
    ("victim", {"empirical_steps": -1}, "empirical_steps must be 0 for no attack on the victim"),
    ("victim", {"threads": 100000}, "threads must be a whole number from 1 to 1024"),
    ("victim", {"certify_batch": 0}, "certify_batch must be None, or a whole number"),
    ("victim", {"points": 0}, "points must be None for all test points of the class, or a whole"),
    ("victim", {"radii": [-0.5]}, "radii must be None, or one or more radii, 0 or above"),
    ("victim", {"radii": []}, "radii must be None, or one or more radii, 0 or above"),
    ("victim", {"normalisation": "center"}, "normalisation must be one of none, centred, mnist, "),
    ("victim", {"noise_seed": 2**31}, "noise_seed must be a whole number from 0 to a billion"),
    ("victim", {"precision": "int4"}, "precision must be one of auto, float32, mixed, int8, not"),
    ("victim", {"curation": "jpg"}, "curation must be one of none, "),
    ("victim", {"schedule": "linear"}, "schedule must be one of constant, cosine, thirds, not"),
    ("victim", {"train_size": 0}, "train_size must be None for all, or a whole number, 1 or above"),
    ("victim", {"split_seed": -1}, "split_seed must be a whole number from 0 to a billion, not -1"),
    ("victim", {"dataset": ""}, "dataset must be mnist5k, mnist, "),
    ("victim", {"dataset": 5}, "dataset must be mnist5k, mnist, "),
    ("victim", {"trainer_options": "draws=4"}, "trainer_options must be a dict of the trainer's o"),
    ("poison", {"eps_linf": -0.1}, f"{EPS} -0.1"),
    ("poison", {"eps_linf": 8}, f"{EPS} 8"),
    ("poison", {"eps_linf": "8/255"}, f"{EPS} '8/255'"),
    ("poison", {"eps_linf": 0.001}, f"{EPS} 0.001: below 1/255, an 8-bit step of 0.004, no pix"),
    ("poison", {"eps_linf": 0}, f"{EPS} 0: below 1/255"),
    ("poison", {"fraction": 0.0}, "fraction must be a share of the target class"),
    ("poison", {"fraction": 1.01}, "fraction must be a share of the target class"),
    ("poison", {"attack": "pacd"}, "attack must be one of first_order, "),
    ("poison", {"target_class": 8.5}, "target_class must be the number of a class, 0 or above, n"),
    ("poison", {"target_class": -1}, "target_class must be the number of a class, 0 or above, not"),
    ("poison", {"device": "gpu"}, "device must be one of auto, cpu, cuda, not 'gpu'"),
    ("poison", {"steps": 0}, f"steps {COUNT} 0"),
    ("poison", {"poison_file": "p.npy"}, "poison_file must be None or the path to write, ending"),
    ("curator", {"poison_file": None}, "poison_file must be the path of a poison file ending in "),
    ("curator", {"poison_file": "b.npz", "rows_file": "b.csv"}, "rows_file must not be 'b.csv'"),
    ("shortcut", {**PATH, "strengths": [1.0, 1.0]}, "strengths must be one or more distinct numb"),
    ("shortcut", {**PATH, "strengths": [NAN]}, "strengths must be one or more distinct numbers"),
    ("shortcut", {**PATH, "strengths": "a,b"}, "strengths must be one or more distinct numbers, "),
    ("cost", {"seeds": [0]}, "seeds must be two or more distinct whole numbers, such as 0,1, not"),
    ("cost", {"growth": 1.0}, "growth must be a number above 1, at most a million, not 1.0"),
    ("cost", {"controls": ["unifrom"]}, "controls must be one or more distinct of uniform, tint"),
    ("linear_vs_lenet", {"eps_linf": [2.0]}, "eps_linf must be one or more numbers between 0 and"),
    ("linear_vs_lenet", {"certify_points": 101}, "certify_points must be a whole number from 1 to"),
    ("first_layer_theory", {"others": [3, 4]}, "others must be one other class, such as [3], or"),
    ("first_layer_theory", {"divide": 0}, f"divide {POSITIVE} 0"),
    ("audit", {"train_size": 100}, "train_size must be a whole number from 200 to 4000, not 100"),
    ("audit", {"draws": 1}, "draws must be a whole number, 2 or above, not 1"),
]

OF_TRAINERS = [
    ("macer", {"draw": 2}, "unknown parameter 'draw'; did you mean 'draws'?"),
    ("macer", {"draws": 0}, f"draws {COUNT} 0"),
    ("macer", {"draws": 2.5}, f"draws {COUNT} 2.5"),
    ("macer", {"lam": -1.0}, "lam must be a number from 0 to a million, not -1.0"),
    ("macer", {"beta": NAN}, "beta must be a number from 0 to a million, not nan"),
    ("smoothadv", {"steps": True}, f"steps {COUNT} True"),
    ("smoothadv", {"radius": "one"}, "radius must be a number from 0 to a million, not 'one'"),
    ("smoothadv", {"warmup": -1}, "warmup must be a whole number from 0 to a billion, not -1"),
    ("standard", {"draws": 2}, "unknown parameter 'draws'; known: none"),
]

OF_ATTACKS = [
    ("first_order", {"drws": 2}, "unknown parameter 'drws'; did you mean 'draws'?"),
    ("cg", {"draws": 0}, f"draws {COUNT} 0"),
    ("approxgrad", {"solve_steps": "few"}, f"solve_steps {COUNT} 'few'"),
    ("direct_search", {"epochs": 1.5}, f"epochs {COUNT} 1.5"),
    ("uniform", {"size": 2}, "unknown parameter 'size'; known: "),
    (
        "error_minimising",
        {"objective": "training"},
        "may not hold 'objective': it is always 'training'",
    ),
]

X, Y = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 4
DIM = "images must be from 0 to 255, the brightest pixel 64 or above, not from 0 to"
OF_DATA = [
    ({"y_train": Y + 1, "y_test": Y + 1}, "labels must be 0, 1, 2 and so on without a gap, not ["),
    ({"y_train": 2 * Y, "y_test": 2 * Y}, "labels must be 0, 1, 2 and so on without a gap, not ["),
    ({"y_train": -Y}, "y_train must be one non-negative integer for each image of x_train"),
    ({"y_train": Y / 4}, "y_train must be one non-negative integer for each image of x_train"),
    ({"y_train": Y[:39]}, "y_train must be one non-negative integer for each image of x_train"),
    ({"y_test": Y[:0], "x_test": X[:0]}, "y_test must be one non-negative integer for each image"),
    ({"y_train": 0 * Y}, "y_train must hold two classes or more"),
    ({"x_test": X[:, :7]}, "x_train and x_test must have images of one shape"),
    ({"x_train": X / 255.0, "x_test": X / 255.0}, "images must be uint8 of shape (N, H, W) or ("),
    ({"x_train": X + 1, "x_test": X + 1}, f"{DIM} 1"),
    ({"x_train": X + 63, "x_test": X + 255}, f"{DIM} 63"),
    ({"x_train": X + 64, "x_test": X + 15}, f"{DIM} 15"),
    ({"x_train": X[..., None].repeat(4, 3), "x_test": X[..., None].repeat(4, 3)}, "images must be"),
]

OF_CERTIFICATES = [
    ({"sigma": 0.0}, "sigma must be a number above 0, pixel units, not 0.0."),
    ({"sigma": INF}, "sigma must be a number above 0, pixel units, not inf."),
    ({"alpha": 1.0}, "alpha must be between 0 and 1, both excluded, not 1.0."),
    ({"alpha": NAN}, "alpha must be between 0 and 1, both excluded, not nan."),
    ({"n0": 0}, "n0 must be at least 1, not 0."),
    ({"seed": 2**31}, "seed must be a whole number below 2^31, not 2147483648."),
    ({"seed": -1}, "seed must be a whole number below 2^31, not -1."),
    (
        {"flags": (False, "False")},
        "stop_wrong and randomised must be True or False, not (False, 'F",
    ),
    ({"n": 9}, "n must be at least 10 at alpha = 0.001, or no point can be certified, not 9."),
    ({"radii": []}, "radii must be one or more numbers, 0 or above, pixel units, not []."),
    ({"radii": [NAN]}, "radii must be one or more numbers, 0 or above, pixel units, not [nan]."),
    ({"y": torch.tensor([0, 4])}, "y must hold labels from 0 to 3, not [0, 4]."),
    ({"y": torch.tensor([-1, 3])}, "y must hold labels from 0 to 3, not [-1, 3]."),
    ({"y": torch.tensor([0.5, 1])}, "y must hold labels from 0 to 3, not [0.5, 1.0]."),
    ({"y": torch.tensor([NAN, 1])}, "y must hold labels from 0 to 3, not [1.0, nan]."),
    ({"y": torch.zeros(3)}, "y must be of shape (2,), a label for each point."),
]


def settings(kind, change):
    grid.SETTINGS[kind].check({**grid.NOTEBOOK_DEFAULTS[kind], **change})


def starts(text, error):
    """One line that begins with the text: no traceback, no list of what else is wrong."""
    said = str(error.value)
    assert said.startswith(text) and "\n" not in said, said


def test_the_tables_are_long():
    tables = OF_NOTEBOOKS, OF_TRAINERS, OF_ATTACKS, OF_DATA, OF_CERTIFICATES
    assert sum(map(len, tables)) >= 80


@pytest.mark.parametrize("kind, change, sentence", OF_NOTEBOOKS)
def test_a_parameter(kind, change, sentence):
    with pytest.raises(SettingsError) as error:
        settings(kind, change)
    starts(sentence, error)


@pytest.mark.parametrize("kind", grid.SETTINGS)
def test_a_parameter_that_is_missing(kind):
    for name in grid.SETTINGS[kind].model_fields:
        given = grid.NOTEBOOK_DEFAULTS[kind] | (PATH if kind in ("curator", "shortcut") else {})
        del given[name]
        with pytest.raises(SettingsError) as error:
            grid.SETTINGS[kind].check(given)
        starts(f"parameter {name!r} is missing", error)


@pytest.mark.parametrize("name, options, sentence", OF_TRAINERS)
def test_an_option_of_a_trainer(name, options, sentence):
    with pytest.raises(SettingsError) as error:
        trainer(name, options, 0.5)
    starts(f"trainer_options of {name}: {sentence}", error)


@pytest.mark.parametrize("name, options, sentence", OF_ATTACKS)
def test_an_option_of_an_attack(name, options, sentence):
    with pytest.raises(SettingsError) as error:
        chosen_attack(name, options)
    assert sentence in str(error.value) and str(error.value).startswith("attack_options of ")


@pytest.mark.parametrize("change, sentence", OF_DATA)
def test_a_data_set(tmp_path, change, sentence):
    path = tmp_path / "set.npz"
    np.savez(path, **{"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, **change})
    with pytest.raises(DataError) as error:
        data.load(str(path))
    starts(f"{path}: {sentence}", error)


@pytest.mark.parametrize("change, sentence", OF_CERTIFICATES)
def test_an_argument_of_the_certifier(change, sentence):
    votes = Votes(lambda x: x.flatten(1), torch.rand(2, 1, 1, 4), 4)
    usual = {"y": torch.zeros(2), "sigma": 0.5, "n0": 100, "n": 1000, "alpha": 0.001, "radii": None}
    with pytest.raises(ValueError) as error:
        told = {**usual, **change}
        check_certify(votes, *map(told.get, usual), told.get("seed", 0), *told.get("flags", ()))
    starts(sentence, error)


OF_POINTS = [
    (torch.full((2, 1, 1, 4), 200, dtype=torch.uint8), "torch.uint8 from 200 to 200."),
    (torch.tensor([[0.0, 255.0]]), "torch.float32 from 0 to 255."),
    (torch.tensor([[-1.0, 0.5]]), "torch.float32 from -1 to 0.5."),
]


@pytest.mark.parametrize("x, found", OF_POINTS)
def test_points_in_other_units(x, found):
    """A radius in pixel units would not be one of these."""
    votes = Votes(lambda x: x.flatten(1).float(), x, x[0].numel())
    with pytest.raises(ValueError) as error:
        certify(votes, torch.zeros(len(x)), 0.5)
    starts(f"the points must be floats from 0 to 1, the pixel units, not {found}", error)


@pytest.mark.parametrize(
    "profile", ["profiles/smoke.yaml", "smoke laptop", "", "../profiles/smoke", "Smoke"]
)
def test_a_profile(profile):
    assert run.main(["study", "--profile", profile]).startswith("PROFILE must be one of laptop, ")


def test_an_experiment():
    said = run.main(["study", "--experiment", "haedline"])
    assert said.startswith("EXPERIMENT must be one of headline, ") and said.endswith("'haedline'.")


def test_rows_that_cannot_be_compared_or_certified_again():
    clean = table(np.ones((2, 3)))
    with pytest.raises(ValueError) as error:
        paired_drop(clean.assign(sigma=0.25), clean.assign(sigma=0.5))
    starts("clean and poisoned rows must have the same sigma, not 0.25 and 0.5.", error)
    rows = clean.assign(n=1000, guess=8, count_8=1000, alpha=0.001)
    with pytest.raises(ValueError) as error:
        recertify(rows, n=2000)
    starts("n must be at most 1000, the draws in the rows, not 2000.", error)
    for change in ({"alpha": 5}, {"alpha": 0}, {"alpha": NAN}):
        with pytest.raises(ValueError) as error:
            recertify(rows, **change)
        starts("alpha must be between 0 and 1, both excluded, not", error)
    with pytest.raises(ValueError) as error:
        recertify(rows, n=0)
    starts("n must be at least 1, not 0.", error)


MNIST = {"empty": b"", "a page": b"<!DOCTYPE html><html></html>" * 9, "cut": None}


@pytest.mark.parametrize("kind", MNIST)
def test_a_damaged_file_of_mnist(tmp_path, monkeypatch, kind):
    """Not 'not found', as it is there, and nothing is asked of the network."""
    monkeypatch.setattr("torchvision.datasets.mnist.MNIST.mirrors", [])
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = np.array([2051, 2, 28, 28], ">i4").tobytes() + bytes(2 * 784)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        labels = np.array([2049, 2], ">i4").tobytes() + bytes(2)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    whole = {path: path.read_bytes() for path in raw.iterdir()}
    for path, content in whole.items():
        path.write_bytes(content[:-1] if MNIST[kind] is None else MNIST[kind])
        with pytest.raises(DataError) as error:
            data.load("mnist", root=tmp_path)
        starts(f"mnist has a damaged file in {tmp_path} (", error)
        path.write_bytes(content)


def test_a_file_that_is_not_there(tmp_path):
    none = str(tmp_path / "none.npz")
    for said in (verify.main([none]), export.main([none, str(tmp_path / "out")])):
        assert said == f"there is no poison file {none}; make it with notebooks/poison.ipynb."
    with pytest.raises(PoisonError) as error:
        verify.verify(tmp_path)
    starts(f"{tmp_path} is not a whole export: it has no manifest.json.", error)
