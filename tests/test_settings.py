"""A wrong parameter is one clear sentence, before any computing."""

import re

import numpy as np
import pytest
import torch

from pacd.data import DataError
from study import grid
from study.parameters import Checked, SettingsError, Text
from study.settings import CuratorSettings, PoisonSettings, ShortcutSettings, VictimSettings
from study.setup import setup, trainer

DEFAULTS = grid.NOTEBOOK_DEFAULTS


def test_the_notebooks_own_defaults_are_allowed():
    assert PoisonSettings.check(DEFAULTS["poison"]).attack == "first_order"
    assert VictimSettings.check(DEFAULTS["victim"]).seeds == [0]


@pytest.mark.parametrize(
    "kind, change, sentence",
    [
        ("victim", {"sgima": 0.25}, "unknown parameter 'sgima'; did you mean 'sigma'\\?"),
        ("victim", {"zzz": 0.25}, "unknown parameter 'zzz'; known: dataset, "),
        ("victim", {"sigma": 0.0}, "sigma must be a number above 0, at most a million, not 0.0"),
        (
            "victim",
            {"sigma": float("nan")},
            "sigma must be a number above 0, at most a million, not nan",
        ),
        ("victim", {"lr": 2e6}, "lr must be a number above 0, at most a million, not 2000000.0"),
        (
            "victim",
            {"sigma": "big"},
            "sigma must be a number above 0, at most a million, not 'big'",
        ),
        ("victim", {"alpha": 1.0}, "alpha must be a failure probability between 0 and 1, not 1.0"),
        (
            "victim",
            {"trainer": "gausian"},
            "trainer must be one of standard, .*, not 'gausian'; did you mean 'gaussian'\\?",
        ),
        ("victim", {"seeds": "0,x"}, "seeds must be one or more distinct whole numbers"),
        ("victim", {"seeds": []}, "seeds must be one or more distinct whole numbers"),
        (
            "victim",
            {"seeds": [1, 1]},
            "seeds must be one or more distinct whole numbers from 0 to a billion, "
            "such as 0,1,2, not \\[1, 1\\]$",
        ),
        ("victim", {"n": 0}, "n must be a whole number from 1 to a billion, not 0"),
        ("victim", {"n": True}, "n must be a whole number from 1 to a billion, not True"),
        ("victim", {"eight_bit": "yes"}, "eight_bit must be True"),
        (
            "victim",
            {"poison_file": "poison.zip"},
            "poison_file must be None for clean data, or the path",
        ),
        (
            "victim",
            {"empirical_steps": -1},
            "empirical_steps must be 0 for no attack on the victim, or a whole number of PGD steps",
        ),
        (
            "victim",
            {"poison_file": "a/b.npz", "rows_file": "a/b.csv"},
            "rows_file must not be 'a/b.csv': "
            "its manifest would take the place of the poison file's",
        ),
        (
            "victim",
            {"seeds": [0, 2**64]},
            "seeds must be one or more distinct whole numbers from 0 to a billion",
        ),
        ("victim", {"threads": 100000}, "threads must be a whole number from 1 to 1024"),
        (
            "shortcut",
            {"poison_file": "p.npz", "strengths": [1.0, 1.0]},
            "strengths must be one or more distinct numbers, not \\[1.0, 1.0\\]$",
        ),
        (
            "shortcut",
            {"poison_file": "p.npz", "strengths": [float("nan")]},
            "strengths must be one or more distinct numbers",
        ),
        (
            "curator",
            {"poison_file": "b.npz", "rows_file": "b.csv"},
            "rows_file must not be 'b.csv'",
        ),
        (
            "victim",
            {"n": 9},
            "n must be 10 or more at alpha 0.001, or no point can be certified, not 9",
        ),
        ("victim", {"n": 13, "alpha": 1e-4}, "n must be 14 or more at alpha 0.0001"),
        ("victim", {"certify_batch": 0}, "certify_batch must be None, or a whole number"),
        (
            "victim",
            {"radii": [-0.5]},
            "radii must be None, or one or more radii, 0 or above, pixel units",
        ),
        (
            "victim",
            {"normalisation": "center"},
            "normalisation must be one of none, centred, mnist, not 'center'; "
            "did you mean 'centred'\\?",
        ),
        ("victim", {"noise_seed": 2**31}, "noise_seed must be a whole number from 0 to 2147483647"),
        (
            "victim",
            {"precision": "int4"},
            "precision must be one of auto, float32, mixed, int8, not 'int4'",
        ),
        (
            "victim",
            {"curation": "jpg"},
            "curation must be one of none, .*, not 'jpg'; did you mean 'jpeg'\\?",
        ),
        (
            "poison",
            {"eps_linf": -0.1},
            "eps_linf must be a number between 0 and 1, pixel units, not -0.1",
        ),
        ("poison", {"fraction": 0.0}, "fraction must be a share of the target class"),
        ("poison", {"attack": "pacd"}, "attack must be one of first_order, .*, not 'pacd'"),
        (
            "poison",
            {"target_class": 8.5},
            "target_class must be the number of a class, 0 or above, not 8.5",
        ),
        ("poison", {"device": "gpu"}, "device must be one of auto, cpu, cuda, not 'gpu'"),
    ],
)
def test_a_wrong_parameter_is_named(kind, change, sentence):
    check = {
        "victim": VictimSettings,
        "poison": PoisonSettings,
        "curator": CuratorSettings,
        "shortcut": ShortcutSettings,
    }[kind].check
    with pytest.raises(SettingsError, match="^" + sentence) as caught:
        check({**DEFAULTS[kind], **change})
    assert "\n" not in str(caught.value)


class ReadsOnly(Checked):
    """Of a notebook that writes nothing, such as extend.ipynb."""

    profile: Text


@pytest.mark.parametrize(
    "name, reason",
    [
        ("a folder.csv", "it is a folder"),
        ("a file/rows.csv", "File exists|Not a directory"),
        ("/proc/rows.csv", ""),
        ("x" * 300 + ".csv", "File name too long"),
    ],
)
def test_a_result_that_could_not_be_written_is_refused_before_the_computing(
    tmp_path, monkeypatch, name, reason
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder.csv").mkdir()
    (tmp_path / "a file").write_text("")
    with pytest.raises(
        SettingsError,
        match=f"^rows_file must be a path where a file can be written, not {name!r} \\(({reason})",
    ):
        VictimSettings.from_notebook({**DEFAULTS["victim"], "rows_file": name})
    crafted = {**DEFAULTS["poison"], "poison_file": name.replace("csv", "npz")}
    if name != "a folder.csv":
        with pytest.raises(SettingsError, match="^poison_file must be a path where"):
            PoisonSettings.from_notebook(crafted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "a folder.csv"]
    assert ReadsOnly.from_notebook({"profile": "smoke"}).profile == "smoke"
    assert (
        VictimSettings.from_notebook({**DEFAULTS["victim"], "rows_file": "new/rows.csv"}).rows_file
        == "new/rows.csv"
    )


@pytest.mark.parametrize(
    "name, options, sentence",
    [
        ("macer", {"draw": 2}, "unknown parameter 'draw'; did you mean 'draws'?"),
        ("macer", {"draws": 0}, "draws must be a whole number from 1 to a billion, not 0"),
        ("macer", {"draws": 2.5}, "draws must be a whole number from 1 to a billion, not 2.5"),
        ("macer", {"lam": -1.0}, "lam must be a number from 0 to a million, not -1.0"),
        ("macer", {"beta": float("nan")}, "beta must be a number from 0 to a million, not nan"),
        (
            "smoothadv",
            {"steps": True},
            "steps must be a whole number from 1 to a billion, not True",
        ),
        ("smoothadv", {"radius": "1"}, "radius must be a number from 0 to a million, not '1'"),
        ("smoothadv", {"warmup": -1}, "warmup must be a whole number from 0 to a billion, not -1"),
        ("standard", {"draws": 2}, "unknown parameter 'draws'; known: none"),
    ],
)
def test_a_wrong_option_of_a_trainer_is_named(name, options, sentence):
    with pytest.raises(
        SettingsError, match="^" + re.escape(f"trainer_options of {name}: {sentence}")
    ):
        trainer(name, options, 0.5)


def test_options_reach_the_loss_as_they_were_given():
    assert trainer("smoothadv", {"warmup": 0, "radius": 2}, 0.5).keywords == {
        "sigma": 0.5,
        "warmup": 0,
        "radius": 2,
    }


@pytest.mark.parametrize("architecture, largest", [("lenet", 15), ("vgg", 15), ("cnn", 3)])
def test_images_that_are_too_small_for_a_network(architecture, largest, tmp_path):
    """The smallest that it takes is a pixel larger."""
    for side, fits in ((largest, False), (largest + 1, True)):
        x, y = np.zeros((20, side, side), np.uint8), np.arange(20) % 2
        np.savez(tmp_path / "small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        change = {
            "dataset": str(tmp_path / "small.npz"),
            "architecture": architecture,
            "target_class": 1,
        }
        settings = VictimSettings.check({**DEFAULTS["victim"], **change})
        if fits:
            assert setup(settings).splits.shape == (1, side, side)
        else:
            with pytest.raises(
                SettingsError,
                match=f"^architecture must be one for images of 1x{side}x{side} .*, "
                f"not '{architecture}' \\(.*size",
            ):
                setup(settings)


@pytest.mark.parametrize("part, size", [("training", 18), ("validation", 2), ("test", 20)])
def test_a_class_that_a_part_of_the_data_lacks(tmp_path, part, size):
    """A 2 for every image but one, and but those of one part, found where the split puts them."""
    generator = torch.Generator().manual_seed(0)
    val, train = torch.randperm(20, generator=generator).split((2, 18))
    labels = {"training": np.full(20, 2), "test": np.full(20, 2)}
    labels["training"][train[0]] = 0
    if part == "test":
        labels["test"][:] = 1
    else:
        labels["training"][{"training": train, "validation": val}[part]] = 1
    x = np.zeros((20, 28, 28), np.uint8)
    np.savez(
        tmp_path / "set.npz", x_train=x, y_train=labels["training"], x_test=x, y_test=labels["test"]
    )
    settings = VictimSettings.check(
        {**DEFAULTS["victim"], "dataset": str(tmp_path / "set.npz"), "target_class": 2}
    )
    with pytest.raises(
        DataError,
        match=f"^target_class must have {part} images, "
        f"and .*set.npz has none of class 2 among its {size}.$",
    ):
        setup(settings)


def test_seeds_from_the_command_line():
    for given, meant in ((3, [3]), ("0,1,2", [0, 1, 2]), ([4, 5], [4, 5])):
        assert VictimSettings.check({**DEFAULTS["victim"], "seeds": given}).seeds == meant
