"""The first layers of `extras.highpass`, and that networks behind them are certified whole."""

import warnings

import pytest
import torch
from certifying import certify
from scipy.fft import dctn
from test_notebooks import TINY
from torch import nn

from extras import highpass
from extras.highpass import Contrast, Without, cosines
from pacd.counts import counts_of
from pacd.int8 import Int8, quantised, safe_margin
from pacd.models import make_model, split_affine
from study import grid
from study.settings import VictimSettings
from study.setup import setup

BUILDERS = {k: getattr(highpass, f"without_{k}") for k in (1, 3, 6, 10, 15)}
SHAPES = [(1, 28, 28), (3, 32, 32), (2, 7, 5)]
vnni = pytest.mark.skipif(
    not torch.cpu._is_vnni_supported(), reason="this CPU has no VNNI instructions"
)


DEFAULTS = grid.NOTEBOOK_DEFAULTS["victim"]


def images(shape, amount=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(amount, *shape, generator=generator)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", BUILDERS)
def test_it_is_an_orthogonal_projection(shape, k):
    layer, x, y = BUILDERS[k](shape), images(shape), images(shape, seed=1)
    projected = layer(x)
    assert projected.shape == x.shape
    close(layer(projected), projected)
    products = [(a * b).flatten(1).double().sum(1) for a, b in ((projected, y), (x, layer(y)))]
    assert (products[0] - products[1]).abs().max() < 1e-3 < products[0].abs().max()
    lengths = [part.flatten(1).norm(dim=1) for part in (projected, x - projected, x)]
    close(lengths[0] ** 2 + lengths[1] ** 2, lengths[2] ** 2)
    assert (lengths[0] < lengths[2]).all()  # every image has a mean, which goes
    close(layer(2 * x - y), 2 * projected - layer(y))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k, order", [(1, 1), (3, 2), (6, 3), (10, 4), (15, 5)])
def test_the_low_components_go_and_the_others_stay(shape, k, order):
    """By another transform: those of i + j < order are 0, all others as they were."""
    x = images(shape)
    before, after = (
        torch.from_numpy(dctn(part.double().numpy(), axes=(2, 3), norm="ortho"))
        for part in (x, BUILDERS[k](shape)(x))
    )
    _, height, width = shape
    low = torch.arange(height)[:, None] + torch.arange(width) < order
    assert low.sum() == k
    assert after[..., low].abs().max() < 1e-5 < before[..., low].abs().min()
    close(after[..., ~low], before[..., ~low])


def test_one_component_is_the_mean_of_each_channel():
    x = images((3, 8, 6))
    close(Without((3, 8, 6), 1)(x), x - x.mean((2, 3), keepdim=True))
    bright = (0.5 * x + 0.3) - 0.5 * x  # the same in every pixel
    assert Without((3, 8, 6), 1)(bright).abs().max() < 1e-6


def test_components_are_ordered_and_orthonormal():
    rows = cosines(4, 6, 24)
    torch.testing.assert_close(rows @ rows.T, torch.eye(24, dtype=torch.float64))
    torch.testing.assert_close(rows[:7], cosines(4, 6, 7))
    down = rows[1].view(4, 6)  # after the mean: one half period across, then one down
    assert (down.diff(dim=0).abs() < 1e-12).all() and (down.diff(dim=1) < 0).all()
    assert (rows[2].view(4, 6).diff(dim=0) < 0).all()
    assert Without((1, 4, 6), 24)(images((1, 4, 6))).abs().max() < 1e-6  # nothing is left


@pytest.mark.parametrize("k", [0, -1, 36, 100])
def test_an_impossible_number_of_components_is_refused(k):
    with pytest.raises(ValueError, match=f"k must be from 1 to the 35 pixels .* not {k}"):
        Without((3, 7, 5), k)


def test_a_saved_network_holds_nothing_of_it():
    assert Without((1, 28, 28), 6).state_dict() == {}
    assert list(Without((1, 28, 28), 6).parameters()) == []


def test_contrast_has_no_mean_and_one_deviation_and_can_lengthen():
    x = images((3, 8, 6))
    layer = highpass.contrast((3, 8, 6))
    flat = layer(x).flatten(1)
    close(flat.mean(1), torch.zeros(4))
    close(flat.std(1, correction=0), torch.ones(4))
    close(layer(0.3 * x + 0.6), layer(x))  # brightness and contrast are gone
    faint = 0.5 + 0.01 * x
    change = (faint - faint.flip(0)).flatten(1).norm(dim=1)
    assert ((layer(faint) - layer(faint.flip(0))).flatten(1).norm(dim=1) > 50 * change).all()
    assert not torch.allclose(layer(x + x.flip(0)), layer(x) + layer(x.flip(0)))


def test_a_blank_image_stays_blank_and_has_a_gradient():
    x = torch.full((1, 1, 5, 5), 0.4, requires_grad=True)
    layer = Contrast()
    assert layer(x).abs().max() < 1e-4
    layer(x)[0, 0, 0, 0].backward()
    assert x.grad.isfinite().all()


def network(first, shape=(1, 28, 28)):
    """A LeNet of fresh weights, large enough that it votes for several classes, behind a layer."""
    lenet = make_model("lenet", shape, 10, 3)
    with torch.no_grad():
        lenet[-1].weight.mul_(20)
    return nn.Sequential(first, *lenet[1:]).eval()


@pytest.mark.parametrize(
    "first, shared", [(Without((1, 28, 28), 1), 3), (Without((1, 28, 28), 6), 3), (Contrast(), 0)]
)
def test_votes_are_those_of_the_whole_network(first, shared):
    """Against a function of the same network, which nothing can take apart."""
    model, x, y = network(first), images((1, 28, 28), 6), torch.arange(6)
    assert len(split_affine(model)[0]) == shared  # layers that see the noise once
    told = {"n": 2000, "sigma": 0.25, "seed": 1}
    whole = counts_of(certify(lambda z: model(z), x, y, **told))
    counts = counts_of(certify(model, x, y, **told))
    assert abs(counts - whole).sum() <= 4  # ties up to rounding
    assert (counts.max(1) < 2000).any()  # votes that could have gone another way
    bare = nn.Sequential(nn.Identity(), *model[1:]).eval()
    assert (counts_of(certify(bare, x, y, **told)) != whole).any()  # the layer matters


def test_a_compiled_network_votes_the_same():
    model, x, y = network(Without((1, 28, 28), 6)), images((1, 28, 28), 2), torch.arange(2)
    told = {"n": 1000, "sigma": 0.25, "seed": 1}
    with warnings.catch_warnings(action="error"):  # one would say that compiling failed
        plain, compiled = (
            counts_of(certify(model, x, y, compiled=answer, **told)) for answer in (False, True)
        )
    assert abs(plain - compiled).sum() <= 4  # ties up to rounding


def test_a_victim_takes_it_by_name():
    brought = {"normalisation": "extras.highpass:without_6"}
    model = setup(VictimSettings.check({**DEFAULTS, **TINY, **brought})).make_model(0)
    x = images((1, 28, 28))
    assert type(model[0]) is Without
    assert torch.equal(model(x), model[1:](Without((1, 28, 28), 6)(x)))


@vnni
@torch.inference_mode()
def test_the_integer_network_keeps_the_layer_in_floats():
    model, x, y = network(Without((1, 28, 28), 6)), images((1, 28, 28), 6), torch.arange(6)
    noisy = x + 0.25 * torch.randn(50, 6, *x.shape[1:], generator=torch.Generator().manual_seed(2))
    quick = quantised(model, noisy.flatten(0, 1))
    assert quick[0] is model[0] and any(isinstance(layer, Int8) for layer in quick.modules())
    told = {"n": 1000, "sigma": 0.25, "seed": 1}
    margin = safe_margin(model, quick, noisy.flatten(0, 1))
    mixed = counts_of(certify(model, x, y, quick=quick, margin=margin, **told))
    assert abs(mixed - counts_of(certify(model, x, y, **told))).sum() <= 4
