"""What a parameter may be, and what is made of it; the wrong ones are in test_bad_inputs.py."""

import numpy as np
import pytest
import torch

from pacd.data import DataError
from study import grid, results
from study.parameters import Checked, SettingsError, Text
from study.settings import PoisonSettings, VictimSettings
from study.setup import setup, trainer

DEFAULTS = grid.NOTEBOOK_DEFAULTS


def test_the_notebooks_own_defaults_are_allowed():
    assert PoisonSettings.check(DEFAULTS["poison"]).attack == "first_order"
    assert VictimSettings.check(DEFAULTS["victim"]).seeds == [0]


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
        x, y = np.full((20, side, side), 99, np.uint8), np.arange(20) % 2
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
    if part == "test":
        labels["test"][:] = 1
    else:
        labels["training"][{"training": train, "validation": val}[part]] = 1
    labels["training"][train[0]] = 0
    x = np.full((20, 28, 28), 99, np.uint8)
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


@pytest.mark.parametrize(
    "name, given, meant",
    [
        ("seeds", 3, [3]),
        ("seeds", "3", [3]),
        ("seeds", "0,1,2", [0, 1, 2]),
        ("seeds", "[0, 1]", [0, 1]),
        ("seeds", [4, 5.0], [4, 5]),
        ("n", 1e2, 100),
        ("n", "1e2", 100),
        ("points", "20", 20),
        ("points", "None", None),
        ("lr", "1e-3", 0.001),
        ("weight_decay", 0, 0.0),
        ("radii", "0.25, 0.5", [0.25, 0.5]),
        ("radii", 1, [1.0]),
        ("eight_bit", "False", False),
        ("trainer_options", "{'draws': 4}", {"draws": 4}),
        ("rows_file", "1.csv", "1.csv"),
    ],
)
def test_what_is_unambiguous_is_taken(name, given, meant):
    taken = getattr(VictimSettings.check({**DEFAULTS["victim"], name: given}), name)
    assert taken == meant and type(taken) is type(meant)


def test_whole_options_reach_the_loss_as_whole_numbers():
    taken = trainer("smoothadv", {"steps": 2.0, "radius": "5e-1"}, 0.5).keywords
    assert repr(taken) == "{'sigma': 0.5, 'steps': 2, 'radius': 0.5}"


CELL = "\n".join(f"{name}: object = {value!r}" for name, value in DEFAULTS["victim"].items())


@pytest.mark.parametrize(
    "cells, wrong",
    [
        ([CELL + "\nsgima: float = 0.25"], "sgima"),
        ([CELL + "\nsgima = 0.25"], "sgima"),
        ([CELL.replace("sigma:", "sgima:")], "sgima"),
        ([CELL, "# Parameters\nsgima = 0.25\n"], "sgima"),
        ([CELL + "\nsgima = 0.25", "sgima = 1", CELL], None),  # it was corrected and run again
        ([CELL, "radii = 1\nfigure = axis = 2\nx, y = 3, 4", "%no python", "# Parameters"], None),
    ],
)
def test_a_name_in_a_notebooks_cells_that_is_no_parameter(tmp_path, cells, wrong):
    namespace = {"In": ["", *cells], "sgima": 0.25, "figure": 2, **DEFAULTS["victim"]}
    if wrong and "sigma:" not in cells[0]:
        del namespace["sigma"]
    namespace["rows_file"] = str(tmp_path / "rows.csv")
    if wrong:
        with pytest.raises(SettingsError, match="^unknown parameter 'sgima'; did you mean 'sigma'"):
            VictimSettings.from_notebook(namespace)
    else:
        assert VictimSettings.from_notebook(namespace).sigma == 0.5


def test_a_checkout_that_cannot_be_written_is_refused_before_the_computing(tmp_path, monkeypatch):
    (tmp_path / "data").write_text("no folder")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    for kind, check in (("victim", VictimSettings), ("poison", PoisonSettings)):
        sentence = f"^{check.writes} must be a path where a file can be written, not None: .*local"
        with pytest.raises(SettingsError, match=sentence):
            check.from_notebook(DEFAULTS[kind])
        named = {**DEFAULTS[kind], check.writes: str(tmp_path / "mine")}
        named[check.writes] += {"victim": ".csv", "poison": ".npz"}[kind]
        assert check.from_notebook(named)


def test_a_manifest_names_the_code_that_began(monkeypatch):
    """A commit while a long run lasts is not the code that it runs."""
    states = iter(["at the start", "at the end"])
    monkeypatch.setattr(results, "commit", lambda: next(states))
    results.started_from.cache_clear()
    settings = VictimSettings.from_notebook(DEFAULTS["victim"])
    made = results.manifest(settings, started=0.0)
    results.started_from.cache_clear()
    assert made["commit"] == "at the start"
