"""What brought functions answer is checked, and the data that they see stay as they were."""

import re

import pytest
import torch
from test_grid import loaded
from test_notebooks import TINY

from pacd.losses import gaussian
from pacd.models import NORMALISATIONS, Normalise, lenet
from pacd.train import Replay, replayed
from study import answers, grid
from study.parameters import SettingsError
from study.settings import PoisonSettings, VictimSettings
from study.setup import chosen_attack, curator, problem_of, setup, trainer

MINE = """
import torch

LAYER = torch.nn.BatchNorm2d(1)
NET = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))


def paints(model, x, y, sigma, generator, epoch=None):
    x[:], y[:] = 1.0, 0
    return torch.nn.functional.cross_entropy(model(x), y)


def for_each(model, x, y, sigma, generator, epoch=None):
    return torch.nn.functional.cross_entropy(model(x), y, reduction="none")


def number(model, x, y, sigma, generator, epoch=None): return 1.0
def constant(model, x, y, sigma, generator, epoch=None): return torch.tensor(1.0)
def the_same(shape, classes): return NET
def frozen(shape, classes):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    network[1].bias.requires_grad_(False)
    return network


def certain(shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10), torch.nn.Softmax(1))


def no_module(shape, classes): return "network"
def brighter(shape): return Half()
def flat(shape): return torch.nn.Flatten()
def nothing(shape): return None
def same_layer(shape): return LAYER
def same_tensor(shape):
    layer = torch.nn.BatchNorm2d(1)
    layer.running_mean = LAYER.running_mean
    return layer




class Half(torch.nn.Module):
    def forward(self, x):
        return x / 2 + 0.5


def darker(x, y):
    x *= 0.5
    return x, y


def images(x, y): return x
def too_bright(x, y): return x + 2, y
def halves(x, y): return x[::2], y
def none_left(x, y): return x[:0], y[:0]
def doubles(x, y): return x.double(), y
def new_class(x, y): return x, y + 100
def gaps(x, y): return x * float("nan"), y
def moves(splits, index, eps, generator):
    x = splits.x_train
    x += 1
    return torch.full((1, *splits.shape), eps)


def wide(splits, index, eps, generator): return torch.zeros(2, len(index), *splits.shape)
def holes(splits, index, eps, generator): return torch.full(splits.shape, float("nan"))
def whole(splits, index, eps, generator): return torch.zeros(1, dtype=torch.int64)
def poisons(problem, steps, seed, checkpoint, how=""):
    x = problem.splits.x_train
    x *= 0.5
    index = (problem.splits.y_train == problem.target_class).nonzero().flatten()
    if how == "twice":
        index = index[[0, 0]]
    if how == "others":
        index = index + 1
    if how == "outside":
        index = index + len(x)
    if how == "fewer":
        index = index[1:]
    if how == "float rows":
        index = index.float()
    images = torch.zeros(len(index), *problem.splits.shape)
    if how == "bright":
        images += 1.5
    if how == "one less":
        images = images[1:]
    return (index, images) if how == "no trace" else (index, images, [])
"""
DEFAULTS = grid.NOTEBOOK_DEFAULTS


@pytest.fixture
def here(tmp_path, monkeypatch, quick_digits):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(MINE)


def victim(**changes):
    return VictimSettings.check({**DEFAULTS["victim"], **TINY, **changes})


def problem(**changes):
    return problem_of(PoisonSettings.check({**DEFAULTS["poison"], **TINY, **changes}))


def refuses(parameter, name):
    """A context in which one sentence about the answer of a brought function is expected."""
    sentence = f"^{parameter} must return .*, and own:{name} does not\\.?$"
    return pytest.raises(SettingsError, match=sentence)


@pytest.mark.parametrize("name", ["for_each", "number", "constant"])
def test_a_trainer_answers_one_number_with_a_gradient(here, name):
    model, x, y = lenet((1, 28, 28), 10), torch.zeros(3, 1, 28, 28), torch.zeros(3).long()
    with refuses("trainer", name):
        trainer(f"own:{name}", {}, 0.5)(model, x, y, generator=None)


def test_a_trainer_that_paints_over_its_batch_paints_over_a_copy(here):
    model, x, y = lenet((1, 28, 28), 10), torch.zeros(3, 1, 28, 28), torch.ones(3).long()
    value = trainer("own:paints", {}, 0.5)(model, x, y, generator=None)
    white = torch.nn.functional.cross_entropy(model(x + 1), y * 0)
    assert value.item() == pytest.approx(white.item()) and x.max() == 0 and y.min() == 1


def test_a_brought_loss_is_never_captured(monkeypatch):
    """As a captured step repeats what its Python did once; the built-in ones are made for that."""

    class Gpu:
        device = torch.device("cuda")

    monkeypatch.setattr("pacd.train.Replay", lambda *told: Replay)
    step, brought = object(), answers.of_loss("own:loss", gaussian)
    assert replayed(step, Gpu, gaussian) is Replay and replayed(step, Gpu, brought) is step


@pytest.mark.parametrize("name", ["the_same", "no_module", "certain", "frozen"])
def test_a_network_is_a_new_module_each_time_and_makes_logits(here, name):
    """Else a victim would begin with the weights, or the batch norm, of the one before it.

    A frozen weight would be drawn anew with the others, and never learn.
    """
    with refuses("architecture", name):
        setup(victim(architecture=f"own:{name}"))


@pytest.mark.parametrize("name", ["flat", "nothing", "same_layer", "same_tensor"])
def test_a_first_layer_keeps_the_shape_and_is_new_each_time(here, name):
    """Else a victim would begin with the averages of the one before it."""
    with refuses("normalisation", name):
        setup(victim(normalisation=f"own:{name}"))


def test_a_brought_first_layer_comes_first_and_the_built_in_ones_stay(here):
    model = setup(victim(normalisation="own:brighter")).make_model(0)
    x = torch.rand(2, 1, 28, 28)
    assert type(model[0]).__name__ == "Half" and torch.equal(model[0](x), x / 2 + 0.5)
    centred = setup(victim(normalisation="centred")).make_model(0)
    assert torch.equal(centred[0](x), (x - 0.5) / 0.5) and type(centred[0]) is Normalise
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), centred.parameters()))
    assert NORMALISATIONS["mnist"]((1, 28, 28)).std == 0.3081


def cleaned(name):
    splits = setup(victim()).splits
    before = splits.x_train.clone(), splits.y_train.clone()
    answer = curator(f"own:{name}", None)(splits.x_train, splits.y_train)
    assert torch.equal(splits.x_train, before[0]) and torch.equal(splits.y_train, before[1])
    return answer, before


def test_a_curator_sees_copies(here):
    (x, y), (x_before, y_before) = cleaned("darker")
    assert torch.equal(x, x_before / 2) and torch.equal(y, y_before)
    none = curator("none", None)(x, y)
    assert none[0] is x and none[1] is y  # the built-in ones go by their names


WRONG = ["images", "too_bright", "halves", "none_left", "doubles", "new_class", "gaps"]


@pytest.mark.parametrize("name", WRONG)
def test_a_curator_answers_images_and_their_labels(here, name):
    with refuses("curation", name):
        cleaned(name)


def crafted(name, fraction=1.0, **options):
    told = problem(attack=f"own:{name}", fraction=fraction)
    before = told.splits.x_train.clone()
    attack = chosen_attack(f"own:{name}", options)
    index, images, _ = attack(told, steps=1, seed=0, checkpoint=None)
    assert torch.equal(told.splits.x_train, before)
    return index, images, before


def test_attacks_see_copies(here):
    index, images, clean = crafted("moves")
    assert torch.allclose(images, (clean[index] + 0.1).clamp(max=1))
    index, images, _ = crafted("poisons")
    assert images.max() == 0


@pytest.mark.parametrize("name", ["wide", "holes", "whole"])
def test_a_pattern_answers_a_change_of_the_images(here, name):
    with refuses("attack", name):
        crafted(name)


WRONG = ["twice", "others", "outside", "fewer", "float rows", "bright", "one less", "no trace"]


@pytest.mark.parametrize("how", WRONG)
def test_an_attack_answers_rows_of_the_class_and_their_images(here, how):
    with refuses("attack", "poisons"):
        crafted("poisons", how=how)


def test_an_attack_poisons_the_fraction_that_its_manifest_will_name(here):
    """This one always takes the whole class; a pattern is given its rows and has no choice."""
    with refuses("attack", "poisons"):
        crafted("poisons", fraction=0.25)
    index, _, _ = crafted("moves", fraction=0.25)
    whole, _, _ = crafted("poisons")
    assert len(index) == round(0.25 * len(whole)) < len(whole)


def test_first_layers_and_curators_are_refused_by_their_signature_and_may_be_in_profiles(
    here, tmp_path, monkeypatch
):
    for place, form in (("curation", "x, y"), ("normalisation", "shape")):
        reason = (
            f"{place} must be one of none, .*begin with \\({re.escape(form)}\\).*it is for_each"
        )
        with pytest.raises(SettingsError, match=reason):
            victim(**{place: "own:for_each"})
    content = """
experiments:
  one:
    victim: {curation: ["none", "own:darker"], normalisation: "own:brighter"}
    poison: {attack: [none, uniform]}
"""
    plan = loaded(tmp_path, monkeypatch, content)
    assert {poison["normalisation"] for poison in plan.poisons.values()} == {"own:brighter"}
    assert len(plan.victims) == 4
