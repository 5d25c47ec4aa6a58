"""What only a GPU shows; under a minute in all: ``pytest -n0 -m cuda tests/test_cuda.py``."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from test_attack import TINY
from torch import nn

from pacd import attack, losses
from pacd.approxgrad import PUBLISHED
from pacd.controls import LEARNED, PATTERNS
from pacd.direct_search import SEARCHES
from pacd.hypergradient import SOLVERS
from pacd.models import MODELS, make_model
from pacd.train import Unkept, train
from pacd.votes import Votes
from study import results, setup
from study.checkpoint import Checkpoint
from study.grid import NOTEBOOK_DEFAULTS
from study.settings import VictimSettings

DEVICE = "cuda"
if not torch.cuda.is_available():
    pytest.skip("no GPU: what only a GPU shows is not tested", allow_module_level=True)
pytestmark = pytest.mark.cuda

SIGMA = 0.5
# Two whole batches and a ragged one an epoch: 24 steps.
RECIPE = {"epochs": 8, "batch": 100, "lr": 1e-3, "seed": 3}
OPTIONS = {"smoothadv": {"warmup": 4}, "macer": {"draws": 4}}


@pytest.fixture(autouse=True)
def repeatable():
    """Float32 as a run has it, and sums in one order."""
    setup.full_float32()
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = False


@pytest.fixture(scope="module")
def few(digits):
    """230 training digits, on the GPU."""
    x, y = digits.x_train[::17][:230], digits.y_train[::17][:230]
    return replace(digits, x_train=x, y_train=y).to(DEVICE)


def loss_of(name):
    return partial(losses.TRAINERS[name], sigma=SIGMA, **OPTIONS.get(name, {}))


class States(Unkept):
    """The states of the generators, epoch by epoch."""

    def __init__(self):
        self.seen = []

    def keep(self, parts, progress, last=False):
        generators = [part for part in parts if isinstance(part, torch.Generator)]
        self.seen.append([generator.get_state().tolist() for generator in generators])


def trained(splits, loss, architecture="lenet", **changes):
    """The history, the weights as one vector, and the generators' states."""
    model = make_model(architecture, splits.shape, 10, seed=1).to(DEVICE)
    states = changes.pop("checkpoint", States())
    setting = {**RECIPE, **changes, "checkpoint": states}
    history = train(model, splits.x_train, splits.y_train, loss, **setting)
    weights = torch.cat([part.flatten().float() for part in model.state_dict().values()])
    return history, weights, states


# --- the training step as a graph ---


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("name", losses.TRAINERS)
def test_replayed_steps_are_the_plain_ones(few, monkeypatch, name, schedule):
    """Through a warm-up and ragged batches."""
    history, weights, states = trained(few, loss_of(name), schedule=schedule)
    monkeypatch.setenv("PACD_GRAPHS", "0")
    plain_history, plain, plain_states = trained(few, loss_of(name), schedule=schedule)
    assert history == pytest.approx(plain_history, rel=1e-4)
    assert torch.allclose(weights, plain, atol=1e-3)
    assert states.seen == plain_states.seen and states.seen[0] != states.seen[1]
    assert history[-1] < history[0]


def test_replayed_steps_keep_the_averages_of_batch_norm(few, monkeypatch):
    history, weights, _ = trained(few, loss_of("gaussian"), "resnet20")
    monkeypatch.setenv("PACD_GRAPHS", "0")
    plain_history, plain, _ = trained(few, loss_of("gaussian"), "resnet20")
    assert history == pytest.approx(plain_history, rel=1e-2)
    assert torch.allclose(weights, plain, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", losses.TRAINERS)
def test_an_attack_replays_the_steps_of_its_models(few, monkeypatch, name):
    """Two models of ten steps each, of which the first three are plain."""
    options = {"inner_steps": 5, "restart": 2, "warmup": 0, "steps": 4}
    _, images, trace = crafted(few, "first_order", name, **options)
    monkeypatch.setenv("PACD_GRAPHS", "0")
    _, plain, plain_trace = crafted(few, "first_order", name, **options)
    radii, expected = ([step["soft_radius"] for step in steps] for steps in (trace, plain_trace))
    assert radii == pytest.approx(expected, rel=1e-3)
    assert (images - plain).abs().gt(1e-6).float().mean() < 0.01  # signs of what is nearly 0


class Weight(nn.Module):
    """One weight, in double precision."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_replayed_steps_have_the_size_of_the_schedule(schedule):
    """Under a gradient of 1 Adam moves the weight by its step size exactly, up to its 1e-8."""
    model, x, y = Weight().to(DEVICE), torch.zeros(60, 1, 1, 1), torch.zeros(60, dtype=torch.int64)
    setting = {"epochs": 4, "batch": 10, "lr": 0.01, "schedule": schedule}
    train(model, x.to(DEVICE), y.to(DEVICE), lambda model, *_, **__: model.weight * 1.0, **setting)
    factors = [(1 + math.cos(math.pi * step / 24)) / 2 for step in range(24)]
    moved = 0.01 * (24 if schedule == "constant" else sum(factors))
    assert model.weight.item() == pytest.approx(-moved, rel=1e-5)


class Killed(Exception):
    pass


class Mortal(Checkpoint):
    """Keeps each epoch's state, and is killed after the third."""

    def keep(self, parts, progress, last=False):
        super().keep(parts, progress, last)
        if len(progress) == 3:
            raise Killed


@pytest.mark.parametrize("name", losses.TRAINERS)
def test_a_killed_training_carries_on(few, tmp_path, name):
    path = tmp_path / "state.pt"
    with pytest.raises(Killed):
        trained(few, loss_of(name), schedule="cosine", checkpoint=Mortal(path, every=0))
    kept = Checkpoint(path, every=0)
    history, weights, _ = trained(few, loss_of(name), schedule="cosine", checkpoint=kept)
    whole_history, whole, _ = trained(few, loss_of(name), schedule="cosine")
    assert kept.seconds > 0 and len(history) == 8
    assert history == pytest.approx(whole_history, rel=1e-4)
    assert torch.allclose(weights, whole, atol=1e-3)


# --- the same numbers as on a CPU ---


def test_votes_are_those_of_a_cpu_but_for_ties(few):
    """Of the same weights under the same noise: plainly, as a compiled graph, and as a pair."""
    model = make_model("lenet", few.shape, 10, seed=1).to(DEVICE)
    train(model, few.x_train, few.y_train, loss_of("gaussian"), **RECIPE)
    on_gpu, x = model.eval(), few.x_test[::50]
    on_cpu = make_model("lenet", few.shape, 10, seed=1).eval()
    on_cpu.load_state_dict(on_gpu.state_dict())
    noise = SIGMA * torch.randn(1500, *few.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = on_cpu((x.cpu()[:, None] + noise).flatten(0, 1)).view(len(x), 1500, 10)
    first, second = scores.topk(2).values.unbind(2)
    ties = (first - second < 1e-3).sum(1)
    points = torch.arange(len(x))
    expected = Votes(on_cpu, x.cpu())(noise, points)
    asked = SimpleNamespace(precision="mixed", sigma=SIGMA, n=1500, compiled=None)
    pair = setup.quick_network(asked, few, len(x))(on_gpu)
    for compiled, told in ((False, {}), (True, {}), (True, pair)):
        votes = Votes(on_gpu, x, compiled=compiled, **told)
        counts = votes(noise.to(DEVICE), points.to(DEVICE)).cpu()
        assert counts.sum() == expected.sum()
        assert ((counts - expected).abs().sum(1) / 2 <= ties).all()
    assert ties.sum() < 0.01 * len(x) * 1500 and (expected.amax(1) < 1500).any()


@pytest.mark.parametrize("name", ["crop", "crop_flip"])
def test_crops_and_flips_are_those_of_a_cpu(few, name):
    augment, made = setup.augmentation(name, few.shape), []
    for images in (few.x_train, few.x_train.cpu()):
        torch.manual_seed(0)
        made.append(augment(images).cpu())
    assert torch.equal(*made)


def rounding():
    """Largest relative error of a convolution and of a product."""
    torch.manual_seed(0)
    x, w = torch.randn(8, 32, 16, 16, device=DEVICE), torch.randn(32, 32, 5, 5, device=DEVICE)
    a = torch.randn(512, 512, device=DEVICE)
    pairs = (
        (nn.functional.conv2d(x, w), nn.functional.conv2d(x.double(), w.double())),
        (a @ a, a.double() @ a.double()),
    )
    return [((one - exact).abs().max() / exact.abs().max()).item() for one, exact in pairs]


def test_no_product_is_rounded_where_float32_is_promised():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    coarse = rounding()
    assert results.tf32()
    setup.setup(VictimSettings.check({**NOTEBOOK_DEFAULTS["victim"], "device": DEVICE}))
    assert not results.tf32()
    assert max(rounding()) < 2e-5
    if torch.cuda.get_device_capability() >= (8, 0):
        assert max(coarse) > 5e-5


# --- everything takes a step ---


@pytest.mark.parametrize("architecture", MODELS)
def test_every_network_trains(few, architecture):
    shape = (3, 32, 32) if architecture.startswith(("resnet", "vgg")) else few.shape
    model = make_model(architecture, shape, 10, seed=1).to(DEVICE)
    x = torch.rand(250, *shape, device=DEVICE)
    y = torch.arange(250, device=DEVICE) % 10
    augment = setup.augmentation("crop_flip", shape)
    history = train(model, x, y, loss_of("gaussian"), **RECIPE | {"epochs": 3}, augment=augment)
    assert len(history) == 3 and all(map(math.isfinite, history))
    assert all(part.isfinite().all() for part in model.state_dict().values())


SMALL = {name: TINY for name in (*attack.METHODS, *LEARNED)}
SMALL |= {name: {} for name in PATTERNS}
SMALL |= {name: {"epochs": 1, "draws": 2} for name in SEARCHES}
PART = {"clean_batch": 40, "poison_batch": 20, "val_batch": 20, "draws": 2}
SMALL |= {name: {**PART, "inner_steps": 2, "solve_steps": 2} for name in PUBLISHED}


def crafted(few, name, trainer="gaussian", steps=2, **options):
    def network(seed):
        return make_model("lenet", few.shape, 10, seed).to(DEVICE)

    problem = attack.Problem(few, network, loss_of(trainer), SIGMA, 8, 0.1)
    return setup.chosen_attack(name, {**SMALL[name], **options})(problem, steps=steps, seed=0)


def check_poison(few, index, images):
    change = (images - few.x_train[index]).abs().max()
    assert images.isfinite().all() and images.min() >= 0 and images.max() <= 1
    assert 0 < change <= 0.1 + 6e-8 and (few.y_train[index] == 8).all()


@pytest.mark.parametrize("name", SMALL)
def test_every_attack_and_control_takes_a_step(few, name):
    index, images, _ = crafted(few, name)
    check_poison(few, index, images)


@pytest.mark.parametrize("trainer", losses.TRAINERS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_takes_a_step_through_every_trainer(few, solver, trainer):
    index, images, trace = crafted(few, "first_order", trainer, solver=solver, solve_batch=20)
    check_poison(few, index, images)
    assert all(math.isfinite(step["soft_radius"]) for step in trace)
    assert solver == "identity" or all(math.isfinite(step["residual"]) for step in trace)
