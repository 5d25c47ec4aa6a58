"""Training and votes with products in bfloat16."""

from functools import partial

import pytest
import torch

from pacd.int8 import safe_margin
from pacd.losses import TRAINERS, gaussian
from pacd.models import make_model
from pacd.train import train, warmup_of
from pacd.votes import Votes
from study.bfloat16 import Rounded, in_bfloat16, rounded
from study.grid import NOTEBOOK_DEFAULTS
from study.settings import VictimSettings
from study.setup import setup

SIGMA = 0.5


@pytest.fixture
def network(digits):
    return make_model("lenet", digits.shape, 10, 0)


def test_products_are_rounded_and_answers_are_not(network, digits):
    seen = []
    network[-1].register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    answers = Rounded(network)(digits.x_train[:50])
    exact = network(digits.x_train[:50])
    assert seen == [torch.bfloat16, torch.float32] and answers.dtype == torch.float32
    assert 0 < (answers - exact).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize("training", [True, False])
def test_a_rounded_network_is_in_the_mode_of_its_network(network, training):
    network.train(training)
    assert Rounded(network).training == training


def test_a_pair_has_the_votes_of_float32(digits):
    """Where the rounded network is sure; the other votes are float32's own."""
    network = make_model("lenet", digits.shape, 10, 0)
    some, loss = torch.arange(0, len(digits.x_train), 4), partial(gaussian, sigma=SIGMA)
    recipe = {"epochs": 3, "batch": 50, "lr": 1e-3}
    train(network, digits.x_train[some], digits.y_train[some], loss, **recipe)
    model, x = network.eval(), digits.x_test[::20]
    noise = SIGMA * torch.randn(400, *digits.shape, generator=torch.Generator().manual_seed(0))
    first = rounded(model)
    pair = {"quick": first, "margin": safe_margin(model, first, digits.x_val + SIGMA * noise[:1])}
    points = torch.arange(len(x))
    both, exact = (Votes(model, x, **told) for told in (pair, {}))
    assert both.precision == "mixed" and both(noise, points).equal(exact(noise, points))
    alone = Votes(model, x, quick=first)(noise, points)
    assert not alone.equal(exact(noise, points))


@pytest.mark.parametrize("name", TRAINERS)
def test_a_loss_is_near_that_of_float32_and_moves_the_same_weights(name, network, digits):
    x, y = digits.x_train[:100], digits.y_train[:100]
    loss = partial(TRAINERS[name], sigma=SIGMA)

    def value(loss):
        network.zero_grad()
        found = loss(network, x, y, generator=torch.Generator().manual_seed(0), epoch=3)
        found.backward()
        assert network.training and found.dtype == torch.float32
        return found.item(), [part.grad.clone() for part in network.parameters()]

    (exact, gradients), (inexact, near) = value(loss), value(in_bfloat16(loss))
    assert inexact != exact and inexact == pytest.approx(exact, rel=0.02)
    assert all(part.dtype == torch.float32 for part in near)
    for one, other in zip(gradients, near):
        assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.95


@pytest.mark.parametrize("name", TRAINERS)
def test_a_gpu_learns_of_the_loss_what_it_asks(name):
    """Epochs of a warm-up, and whether a graph may hold the step."""
    loss = partial(TRAINERS[name], sigma=SIGMA)
    loss.capturable = False
    assert warmup_of(in_bfloat16(loss)) == warmup_of(loss)
    assert in_bfloat16(loss).capturable is False


def test_settings_choose_it(digits):
    """A training by the settings is that of the rounded loss, and learns."""
    told = {**NOTEBOOK_DEFAULTS["victim"], "training_precision": "bfloat16"}
    splits, loss, make = setup(VictimSettings.check(told))
    x, y = splits.x_train[:1000], splits.y_train[:1000]
    losses = loss, in_bfloat16(partial(TRAINERS["gaussian"], sigma=SIGMA))
    first, second = (train(make(1), x, y, of, epochs=3, batch=100, lr=1e-3) for of in losses)
    assert first == second and first[-1] < 0.7 * first[0]
    exact = partial(TRAINERS["gaussian"], sigma=SIGMA)
    assert first != train(make(1), x, y, exact, epochs=3, batch=100, lr=1e-3)
