"""A wrong parameter is one clear sentence, before any computing."""

import json
import re

import numpy as np
import pytest
import torch

from pacd import attack, baselines, direct_search, losses, models, names
from pacd.checked import SettingsError
from pacd.data import DataError
from pacd.experiment import setup, trainer
from pacd.settings import PoisonSettings, VictimSettings
from profiles import grid

DEFAULTS = grid.NOTEBOOK_DEFAULTS


def test_the_notebooks_own_defaults_are_allowed():
    assert PoisonSettings.check(DEFAULTS["poison"]).attack == "first_order"
    assert VictimSettings.check(DEFAULTS["victim"]).seeds == [0]


def test_names_are_those_of_the_method():
    assert names.NORMALISATIONS == tuple(models.NORMALISATIONS)
    assert names.SEARCHES == direct_search.SEARCHES
    assert names.METHODS == tuple(attack.METHODS) and names.BASELINES == tuple(baselines.BASELINES)


@pytest.mark.parametrize("kind, change, sentence", [
    ("victim", {"sgima": 0.25}, "unknown parameter 'sgima'; did you mean 'sigma'\\?"),
    ("victim", {"zzz": 0.25}, "unknown parameter 'zzz'; known: dataset, "),
    ("victim", {"sigma": 0.0}, "sigma must be a number above 0, at most a million, not 0.0"),
    ("victim", {"sigma": float("nan")}, "sigma must be a number above 0, at most a million, not nan"),
    ("victim", {"lr": 2e6}, "lr must be a number above 0, at most a million, not 2000000.0"),
    ("victim", {"sigma": "big"}, "sigma must be a number above 0, at most a million, not 'big'"),
    ("victim", {"alpha": 1.0}, "alpha must be a failure probability between 0 and 1, not 1.0"),
    ("victim", {"trainer": "gausian"}, "trainer must be one of standard, .*, not 'gausian'; did you mean 'gaussian'\\?"),
    ("victim", {"seeds": "0,x"}, "seeds must be one or more whole numbers"),
    ("victim", {"seeds": []}, "seeds must be one or more whole numbers"),
    ("victim", {"seeds": [1, 1]}, "seeds must be distinct"),
    ("victim", {"n": 0}, "n must be a whole number, 1 or above, not 0"),
    ("victim", {"n": True}, "n must be a whole number, 1 or above, not True"),
    ("victim", {"eight_bit": "yes"}, "eight_bit must be True"),
    ("victim", {"poison_file": "poison.zip"}, "poison_file must be None for clean data, or the path"),
    ("victim", {"empirical_steps": -1}, "empirical_steps must be 0 for no attack on the victim, or a whole number of PGD steps"),
    ("victim", {"empirical_steps": 3, "precision": "int8"}, "empirical_steps must be 0 with precision 'int8'"),
    ("victim", {"normalisation": "center"}, "normalisation must be one of centred, none, mnist, not 'center'; did you mean 'centred'\\?"),
    ("victim", {"noise_seed": 2**31}, "noise_seed must be a whole number from 0 to 2147483647"),
    ("victim", {"precision": "int4"}, "precision must be one of float32, bfloat16, int8, not 'int4'"),
    ("victim", {"curation": "jpg"}, "curation must be one of none, .*, not 'jpg'; did you mean 'jpeg'\\?"),
    ("poison", {"eps_linf": -0.1}, "eps_linf must be a number between 0 and 1, pixel units, not -0.1"),
    ("poison", {"fraction": 0.0}, "fraction must be a share of the target class"),
    ("poison", {"attack": "pacd"}, "attack must be one of first_order, cg, neumann, approxgrad, .*, not 'pacd'"),
    ("poison", {"target_class": 8.5}, "target_class must be the number of a class, 0 or above, not 8.5"),
    ("poison", {"device": "gpu"}, "device must be one of auto, cpu, cuda, not 'gpu'"),
])
def test_a_wrong_parameter_is_named(kind, change, sentence):
    check = {"victim": VictimSettings, "poison": PoisonSettings}[kind].check
    with pytest.raises(SettingsError, match="^" + sentence) as caught:
        check({**DEFAULTS[kind], **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, options, sentence", [
    ("macer", {"draw": 2}, "unknown parameter 'draw'; did you mean 'draws'?"),
    ("macer", {"draws": 0}, "draws must be a whole number, 1 or above, not 0"),
    ("macer", {"draws": 2.5}, "draws must be a whole number, 1 or above, not 2.5"),
    ("macer", {"lam": -1.0}, "lam must be a number from 0 to a million, not -1.0"),
    ("macer", {"beta": float("nan")}, "beta must be a number from 0 to a million, not nan"),
    ("smoothadv", {"steps": True}, "steps must be a whole number, 1 or above, not True"),
    ("smoothadv", {"radius": "1"}, "radius must be a number from 0 to a million, not '1'"),
    ("smoothadv", {"warmup": -1}, "warmup must be a whole number, 0 or above, not -1"),
    ("standard", {"draws": 2}, "unknown parameter 'draws'; known: none"),
])
def test_a_wrong_option_of_a_trainer_is_named(name, options, sentence):
    with pytest.raises(SettingsError, match="^" + re.escape(f"trainer_options of {name}: {sentence}")):
        trainer(name, options, 0.5)


def test_options_reach_the_loss_as_they_were_given():
    assert trainer("smoothadv", {"warmup": 0, "radius": 2}, 0.5).keywords == {"sigma": 0.5, "warmup": 0, "radius": 2}


@pytest.mark.parametrize("architecture, side", [("lenet", 15), ("vgg", 15), ("cnn", 3)])
def test_images_that_are_too_small_for_a_network(architecture, side, tmp_path):
    """The smallest that it takes is a pixel larger."""
    for side, fits in ((side, False), (side + 1, True)):
        x, y = np.zeros((20, side, side), np.uint8), np.arange(20) % 2
        np.savez(tmp_path / "small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        change = {"dataset": str(tmp_path / "small.npz"), "architecture": architecture, "target_class": 1}
        settings = VictimSettings.check({**DEFAULTS["victim"], **change})
        if fits:
            assert setup(settings).splits.shape == (1, side, side)
        else:
            with pytest.raises(SettingsError, match=f"^architecture must be one for images of 1x{side}x{side} .*, not '{architecture}' \\(.*size"):
                setup(settings)


@pytest.mark.parametrize("part, size", [("training", 18), ("validation", 2), ("test", 20)])
def test_a_class_that_a_part_of_the_data_lacks(tmp_path, part, size):
    """A 2 for every image but those of one part, found where the split puts them."""
    generator = torch.Generator().manual_seed(0)
    val, train = torch.randperm(20, generator=generator).split((2, 18))
    labels = {"training": np.full(20, 2), "test": np.full(20, 2)}
    if part == "test":
        labels["test"][:] = 1
    else:
        labels["training"][{"training": train, "validation": val}[part]] = 1
    x = np.zeros((20, 28, 28), np.uint8)
    np.savez(tmp_path / "set.npz", x_train=x, y_train=labels["training"], x_test=x, y_test=labels["test"])
    settings = VictimSettings.check({**DEFAULTS["victim"], "dataset": str(tmp_path / "set.npz"), "target_class": 2})
    with pytest.raises(DataError, match=f"^target_class must have {part} images, and .*set.npz has none of class 2 among its {size}.$"):
        setup(settings)


def test_seeds_from_the_command_line():
    for given, meant in ((3, [3]), ("0,1,2", [0, 1, 2]), ([4, 5], [4, 5])):
        assert VictimSettings.check({**DEFAULTS["victim"], "seeds": given}).seeds == meant


def test_an_unknown_profile_is_refused():
    with pytest.raises(SettingsError, match="PROFILE must be one of .*smoke.*, not 'smkoe'"):
        grid.load("smkoe")


@pytest.mark.parametrize("content, sentence", [
    ("experiments: {one: {victm: {sigma: 0.5}}}", "mine.yaml: experiments: one may hold victim, poison, not 'victm'."),
    ("kep: true\nexperiments: {}", "mine.yaml may hold kept, data, victim, poison, trainers, experiments, not 'kep'."),
    ("trainers: {mcer: {}}\nexperiments: {}", "mine.yaml: trainers may hold standard, gaussian, smoothadv, macer, not 'mcer'."),
    ("experiments: {one: {victim: {seeds: [0, 1]}, poison: {attack: none}}}", "a profile may not hold 'seeds'"),
    ("experiments: {one: }", "mine.yaml: experiments: one must hold victim, poison, not None."),
    ("", "mine.yaml must hold kept, data, victim, poison, trainers, experiments, not None."),
    ("trainers: {macer: {draws: 4}}\nexperiments: {}", "mine.yaml: trainers: macer may hold victim, poison, not 'draws'."),
    ("a: [", "mine.yaml must be YAML: while parsing"),
    ("kept: maybe", "mine.yaml: kept must be true or false, not 'maybe'."),
    ("data: 5", "mine.yaml: data must hold names with their values, not 5."),
    ("victim: {1: 2}", "mine.yaml: victim must hold names with their values, not {1: 2}."),
    ("experiments: [1]", "mine.yaml: experiments must hold names with their values, not [1]."),
    ("experiments: {one: []}", "mine.yaml: experiments: one must hold victim, poison, not None."),
    ("experiments: {one: {victim: 3}}", "mine.yaml: experiments: one: victim must hold names with their values, not 3."),
    ("experiments: {one: {victim: {sigma: []}}}", "mine.yaml: experiments: one: victim must have one value or more for each name, not []."),
    ("data: {dataset: 5}\nexperiments: {one: {victim: {seed: 0}}}", "5-gaussian-0.5-first_order-0-"),
    ("experiments: {one: {victim: {trainer: [[gaussian]]}, poison: {attack: none}}}", "mnist5k-['gaussian']-0.5-clean-0-"),
    ("experiments: {one: {victim: {lr: 1e-3}, poison: {attack: none}}}", "mnist5k-gaussian-0.5-clean-0-"),
    ("experiments: {one: {victim: {seed: 0}, poison: {attack: pacd}}}", "mnist5k-gaussian-0.5-pacd-0-"),
])
def test_a_profile_is_checked_before_it_runs(tmp_path, monkeypatch, content, sentence):
    monkeypatch.setattr(grid, "__file__", str(tmp_path / "grid.py"))
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(SettingsError, match="^" + re.escape(sentence)) as caught:
        grid.load("mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("profile", ["laptop", "paper"])
def test_smoke_runs_whatever_has_a_name_in_the_larger_profiles(profile):
    """Trainers, networks, attacks, augmentations and all other choices from a list, and switches; not data sets, whose stand-ins are the embedded digits and coloured ones."""
    def chosen(name):
        kinds = grid.load(name)._asdict()
        return {(kind, key, value) for kind in ("victims", "poisons", "curators") for run in kinds[kind].values() for key, value in run.items()
                if isinstance(value, (str, bool)) and key not in ("dataset", "poison_file", "rows_file", "compiled")}  # fmt: skip

    assert chosen(profile) - chosen("smoke") == set() and len(chosen(profile)) > 40


def test_a_change_in_the_profile_renames_only_what_depends_on_it():
    def runs(**poison):
        plan, content = grid.Grid("t", {}, {}, {}, {}), {"poison": {"steps": 5, **poison}, "experiments": {}}
        return grid._add(plan, content, {}, {"attack": "none"}), grid._add(plan, content, {}, {"attack": "cg"})

    (clean, poisoned), (clean_again, other) = runs(), runs(steps=6)
    assert clean == clean_again and poisoned != other


def test_a_kept_profile_makes_only_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "ROOT", tmp_path)
    rows = "data/results/t/{}.csv"
    plan = grid.Grid("t", {}, {run: {"rows_file": rows.format(run)} for run in "abc"}, {"d": {"rows_file": rows.format("d")}}, {"x": ["a", "b"], "y": ["b", "c", "d"]}, True)
    path = tmp_path / rows.format("b")
    path.parent.mkdir(parents=True)
    path.touch()
    assert plan.missing() == ["a", "c", "d"] and plan.missing("y") == ["c", "d"]
    assert plan._replace(kept=False).missing("x") == ["a", "b"]
    with pytest.raises(SettingsError, match="EXPERIMENT must be one of x, y, not 'z'"):
        plan.missing("z")


def test_a_new_parameter_at_its_default_renames_no_committed_rows(monkeypatch):
    given = {**DEFAULTS["victim"], "sigma": 0.25}
    before = grid._name("victim", given, "clean", 0)
    monkeypatch.setitem(grid.NOTEBOOK_DEFAULTS, "victim", {**DEFAULTS["victim"], "brand_new": 1})
    assert grid._name("victim", {**given, "brand_new": 1}, "clean", 0) == before != grid._name("victim", {**given, "brand_new": 2}, "clean", 0)


@pytest.mark.parametrize("profile", ["laptop", "paper"])
def test_committed_rows_are_those_that_the_profile_asks_for(profile):
    """A changed default would change the meaning of a run without changing its name: the manifests are held against the grid."""
    plan = grid.load(profile)
    for run, wanted in plan.runs.items():
        manifest = (grid.ROOT / wanted["rows_file"]).with_suffix(".json")
        if manifest.exists():
            made = json.loads(manifest.read_text())["parameters"]
            assert {name: made.get(name, value) for name, value in wanted.items()} == wanted, run
    folder = grid.ROOT / "data" / "results" / profile
    assert {path.stem for path in folder.glob("*.csv")} <= set(plan.runs), "rows that no experiment asks for"
