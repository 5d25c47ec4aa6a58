"""Other people's trainers, networks and attacks, by the path of their function."""

import hashlib
import importlib
import json
import re
import subprocess
import sys

import pytest
import torch
from test_grid import loaded
from test_notebooks import POISON, TINY, VICTIM, papermill

from pacd import losses
from pacd.losses import TRAINERS
from pacd.models import MODELS
from study import grid, named
from study.checkpoint import checkpoint
from study.parameters import SettingsError
from study.rows import read_rows
from study.settings import PoisonSettings, VictimSettings
from study.setup import problem_of, setup, trainer

MINE = """
import torch
from torch.nn.functional import cross_entropy


def loss(model, x, y, *, sigma, generator, epoch=None, copies=2, pull: "float" = 0.5):
    noise = torch.randn(x.shape, generator=generator)
    return copies * cross_entropy(model(x + sigma * noise), y)


def network(shape, classes, width=8):
    pixels = shape[0] * shape[1] * shape[2]
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(pixels, classes))


def attack(problem, *, steps, seed=0, checkpoint=None, down=False):
    index = problem.poisoned_rows(torch.Generator().manual_seed(seed))
    clean = problem.splits.x_train[index]
    change = -problem.eps_linf if down else problem.eps_linf
    return index, (clean + change).clamp(0, 1), [{"step": 0, "nothing": 0.0}]


def pattern(splits, index, eps, generator, column=14):
    change = torch.zeros(1, *splits.shape)
    change[..., column] = eps
    return change


def short(model, x): ...
def no_default(model, x, y, *, sigma, generator, epoch=None, draws): ...
def needs_epoch(model, x, y, *, sigma, generator, epoch): ...
def starred(model, x, y, *, sigma, generator, epoch=None, **options): ...
def of_logits(shape, classes): return torch.nn.Sequential(torch.nn.Flatten())
VALUE = 3
"""
DEFAULTS = grid.NOTEBOOK_DEFAULTS
LOSS = (
    "MODULE:FUNCTION, whose parameters begin with (model, x, y, sigma, generator, epoch=None), then"
)


@pytest.fixture
def here(tmp_path, monkeypatch, quick_digits):
    """The current folder, with a file of somebody's functions, and one that does not work."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("def loss(:\n")
    (tmp_path / "wants.py").write_text("import nowhere\n")
    return tmp_path


def victim(**changes):
    return VictimSettings.check({**DEFAULTS["victim"], **TINY, **changes})


def poison(**changes):
    return PoisonSettings.check({**DEFAULTS["poison"], **TINY, **changes})


def test_built_in_and_brought_functions_come_through_one_door(here):
    assert named.function("macer", TRAINERS, named.LOSS) is losses.macer
    brought = named.function("pacd.losses:macer", {}, named.LOSS)
    assert brought is losses.macer  # of a package that Python finds
    assert named.function("mine:loss", TRAINERS, named.LOSS).__module__ == "mine"


def test_every_built_in_function_has_the_form_that_a_brought_one_must_have():
    from pacd.controls import PATTERNS

    assert all(named.fits(loss, named.LOSS) for loss in TRAINERS.values())
    assert all(named.fits(network, named.NETWORK) for network in MODELS.values())
    assert all(named.fits(pattern, named.PATTERN) for pattern in PATTERNS.values())


WRONG = [
    ("trainer", "mine:los", ": mine holds no function 'los'; did you mean 'mine:loss'?"),
    ("trainer", "mine:VALUE", ": mine holds no function 'VALUE'"),
    ("trainer", "mine:short", ": it is short(model, x)"),
    ("trainer", "mine:no_default", ": it is no_default(model, x, y, *, sigma, generator, epoch=N"),
    ("trainer", "mine:needs_epoch", ": it is needs_epoch(model, x, y, *, sigma, generator, epoch"),
    ("trainer", "mine:starred", ": it is starred(model, x, y, *, sigma, generator, epoch=None, *"),
    ("trainer", "mine:network", ": it is network(shape, classes, width=8)"),
    ("trainer", "mine.py:loss", ": mine, without .py, is the name of that module"),
    ("trainer", "mien:loss", ": there is no mien.py in "),
    ("trainer", "broken:loss", ": broken cannot be imported (SyntaxError: "),
    ("trainer", "wants:loss", ": wants needs 'nowhere', which is not installed"),
    ("trainer", ":loss", ": "),
    ("architecture", "mine:loss", ": it is loss(model, x, y, *, sigma, generator, epoch=None, "),
    ("attack", "mine:loss", ": it is loss("),
]


@pytest.mark.parametrize("place, name, reason", WRONG)
def test_what_is_no_such_function_is_refused_before_any_computing(here, place, name, reason):
    with pytest.raises(SettingsError) as error:
        poison(**{place: name})
    said = str(error.value)
    assert said.startswith(f"{place} must be one of ") and "\n" not in said
    assert f"not {name!r}{reason}" in said and "MODULE:FUNCTION, whose parameters begin" in said
    assert LOSS in said or place != "trainer"


def test_options_are_checked_by_the_signature(here):
    bound = trainer("mine:loss", {"copies": 3.0}, 0.5).__wrapped__.keywords
    assert bound == {"sigma": 0.5, "copies": 3}
    for options, sentence in (
        ({"copy": 3}, "trainer_options of mine:loss: unknown parameter 'copy'; did you mean 'cop"),
        ({"copies": 0}, "trainer_options of mine:loss: copies must be a whole number from 1 to"),
        ({"pull": "hard"}, "trainer_options of mine:loss: pull must be a number from 0 to a mil"),
    ):
        with pytest.raises(SettingsError, match="^" + re.escape(sentence)):
            trainer("mine:loss", options, 0.5)
    from study.setup import chosen_attack

    with pytest.raises(SettingsError, match="^attack_options of mine:attack: unknown parameter 'u"):
        chosen_attack("mine:attack", {"up": True})
    with pytest.raises(SettingsError, match="^attack_options of mine:pattern: column must be a w"):
        chosen_attack("mine:pattern", {"column": "left"})


def test_a_network_must_make_logits_of_these_images(here):
    sentence = (
        "^architecture must be one for images of 1x28x28 .*not 'mine:of_logits' \\(.*it makes"
    )
    with pytest.raises(SettingsError, match=sentence):
        setup(victim(architecture="mine:of_logits"))


def test_a_state_and_a_manifest_know_the_code(here):
    """And an edit in a kernel that lives on counts with the next look at the settings."""
    first = checkpoint(victim(trainer="mine:loss"), 0).path
    assert checkpoint(victim(trainer="mine:loss"), 0).path == first
    before = named.hashes({"trainer": "mine:loss"})
    (here / "mine.py").write_text(MINE.replace("copies=2", "copies=3"))
    assert named.hashes({"trainer": "mine:loss"}) == before  # of what runs, not of what is edited
    edited = victim(trainer="mine:loss")
    assert checkpoint(edited, 0).path != first and named.hashes({"trainer": "mine:loss"}) != before
    assert trainer("mine:loss", {}, 0.5).__wrapped__.func.__kwdefaults__["copies"] == 3
    assert named.hashes({"trainer": "macer", "attack": "cg"}) == {}


@pytest.fixture
def package(here, monkeypatch):
    """The file of a module in a package of somebody's, ``pk.mod``."""
    monkeypatch.syspath_prepend(here)
    (here / "pk").mkdir()
    (here / "pk" / "__init__.py").write_text("")
    (here / "pk" / "mod.py").write_text(MINE)
    yield here / "pk" / "mod.py"
    for name in ("pk", "pk.mod"):
        sys.modules.pop(name, None)


def looked_up(name):
    """What the loss that is found has as ``copies``, and the hash that a manifest would have."""
    copies = named.function(name, {}, named.LOSS).__kwdefaults__["copies"]
    return copies, named.hashes({"trainer": name})[name]


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_edited_module_of_a_package_runs_as_it_now_is(package, by_hand):
    """Edited at once and of the same size, so that the bytecode beside it looks like its own."""
    if by_hand:
        importlib.import_module("pk.mod")
    else:
        assert looked_up("pk.mod:loss") == (2, sha256(package))
    package.write_text(MINE.replace("copies=2", "copies=3"))
    assert looked_up("pk.mod:loss") == (3, sha256(package))
    assert looked_up("pk.mod:loss") == (3, sha256(package))


def test_an_edited_file_runs_as_it_now_is_at_once(here):
    assert looked_up("mine:loss") == (2, sha256(here / "mine.py"))
    (here / "mine.py").write_text(MINE.replace("copies=2", "copies=3"))
    assert looked_up("mine:loss") == (3, sha256(here / "mine.py"))


def test_a_function_that_is_still_the_old_one_is_refused(package, here):
    """Python imports a module once: the file that took the function from it keeps the old one."""
    (here / "via.py").write_text("from pk.mod import loss\n")
    found = looked_up("via:loss")
    assert found == (2, sha256(package))
    package.write_text(MINE.replace("copies=2", "copies=3"))
    with pytest.raises(SettingsError, match="not 'via:loss': mod.py was edited after it was imp"):
        victim(trainer="via:loss")
    assert named.hashes({"trainer": "via:loss"})["via:loss"] == found[1]


def test_a_profile_may_name_them(here, monkeypatch):
    content = """
trainers: {"mine:loss": {victim: {epochs: 7}}}
experiments:
  one:
    victim: {trainer: [gaussian, "mine:loss"], architecture: "mine:network"}
    poison: {attack: ["mine:attack"]}
"""
    plan = loaded(here, monkeypatch, content)
    gaussian, mine = plan.victims.values()
    assert (gaussian["epochs"], mine["epochs"]) == (10, 7) and len(plan.poisons) == 2
    assert all(re.fullmatch(r"[\w.-]+", run) for run in (*plan.victims, *plan.poisons))
    with pytest.raises(SettingsError, match="^mine.yaml: .*trainer must be one of .*mine:los'"):
        loaded(here, monkeypatch, content.replace("mine:loss", "mine:los"))


def test_poison_and_victim_by_brought_code_alone(here):
    """Each is used: the poison is brighter by eps, and the victims are linear."""
    brought = {"trainer": "mine:loss", "architecture": "mine:network"}
    attack = {"attack": "mine:attack", "attack_options": {"down": False}}
    done = papermill("poison", here, **{**POISON, **brought, **attack}, poison_file="p.npz")
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads((here / "p.json").read_text())
    assert set(made["brought"]) == {"mine:loss", "mine:network", "mine:attack"}
    assert made["distortion"]["linf"] == pytest.approx(25 / 255)
    told = {**VICTIM, **brought, "trainer_options": {"copies": 1}, "poison_file": "p.npz"}
    done = papermill("victim", here, **told, rows_file="rows.csv")
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads((here / "rows.json").read_text())
    assert set(made["brought"]) == {"mine:loss", "mine:network"}
    assert set(read_rows(here / "rows.csv")["trainer"]) == {"mine:loss"}


def test_beside_the_notebooks_and_by_a_pattern(here, monkeypatch):
    monkeypatch.setattr(named, "ROOT", here)
    (here / "notebooks").mkdir()
    (here / "mine.py").rename(here / "notebooks" / "mine.py")
    from study.setup import chosen_attack

    chosen = chosen_attack("mine:pattern", {"column": 3})
    problem = problem_of(poison(attack="mine:pattern"))
    index, images, _ = chosen(problem, steps=1, seed=0, checkpoint=None)
    moved = (images - problem.splits.x_train[index]).amax((0, 1, 2))
    assert moved[3] == pytest.approx(0.1) and torch.cat([moved[:3], moved[4:]]).abs().max() == 0


def test_a_file_that_shadows_nothing(here):
    """A module that is called like one of Python's is the file, and Python's stays what it is."""
    (here / "random.py").write_text(MINE)
    assert named.function("random:loss", {}, named.LOSS).__module__ == "random"
    done = subprocess.run([sys.executable, "-c", "import random; random.Random(0)"], cwd="/")
    assert done.returncode == 0 and hasattr(sys.modules["random"], "Random")
