"""The integer network: its arithmetic, its likeness to the float network, and that rows name it."""

import copy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from certifying import certify
from torch import nn

from pacd import int8
from pacd.certify import noise_blocks
from pacd.counts import counts_of
from pacd.int8 import Int8, quantised, safe_margin
from pacd.models import make_model
from pacd.votes import COMPILE_FROM, Votes
from study.parameters import SettingsError
from study.setup import quick_network

vnni = pytest.mark.skipif(
    not torch.cpu._is_vnni_supported(), reason="this CPU has no VNNI instructions"
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


LAYERS = [
    (nn.Linear(30, 7), (5, 30)),
    (nn.Linear(30, 7, bias=False), (5, 30)),
    (nn.Conv2d(3, 6, 5), (2, 3, 9, 8)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), (2, 4, 9, 9)),
    (nn.Conv2d(4, 6, 3, dilation=2, groups=2), (2, 4, 9, 9)),
]


@vnni
@pytest.mark.parametrize("layer, shape", LAYERS, ids=lambda a: str(a))
@torch.inference_mode()
def test_a_layer_is_exact_integer_arithmetic(layer, shape):
    """Against the same steps in float64, where the sums are exact.

    The padding must be the zero, and not the lowest step.
    """
    x = torch.randn(shape) + 0.5
    low, high = x.min().item(), x.max().item()
    step, zero = (high - low) / 255, round(-low / ((high - low) / 255))
    whole = ((x * (1 / step)).round() + zero).clamp(0, 255) - zero
    steps = layer.weight.abs().flatten(1).amax(1) / 127
    double = copy.deepcopy(layer).double()
    double.bias = None
    double.weight.copy_((layer.weight / steps.view(-1, *[1] * (layer.weight.ndim - 1))).round())
    bias = torch.zeros(len(steps)) if layer.bias is None else layer.bias
    steps, bias = (v.double().view(-1, *[1] * (x.ndim - 2)) for v in (steps * step, bias))
    torch.testing.assert_close(
        Int8(layer, low, high)(x).double(),
        double(whole.double()) * steps + bias,
        rtol=1e-5,
        atol=1e-5,
    )


@vnni
@pytest.mark.parametrize(
    "name, shape",
    [
        ("lenet", (1, 28, 28)),
        ("mlp", (1, 28, 28)),
        ("cnn", (1, 28, 28)),
        ("resnet20", (3, 32, 32)),
        ("vgg", (3, 32, 32)),
    ],
)
@torch.inference_mode()
def test_every_network_keeps_its_logits(name, shape):
    model, images = (
        make_model(name, shape, 10, 0),
        torch.rand(80, *shape) + 0.2 * torch.randn(80, *shape),
    )
    model.train()(images)  # statistics for batch norm
    before, x = [p.clone() for p in model.eval().parameters()], images[40:]
    network = quantised(model, images[:40])
    assert not any(isinstance(layer, (nn.Linear, nn.Conv2d)) for layer in network[-1].modules())
    spread = model(x).std(0).mean()
    assert (network(x) - model(x)).abs().mean() < 0.15 * spread
    assert (
        quantised(model, 0.01 * images[:40])(x) - model(x)
    ).abs().mean() > 0.15 * spread  # planted: ranges too narrow
    assert all(
        a.equal(b) for a, b in zip(before, model.parameters())
    )  # the caller's network is left alone


@vnni
def test_rows_name_the_integer_network_and_it_is_one_whatever_the_tricks(digits):
    x, y = digits.x_test[::100], digits.y_test[::100]
    model = make_model("lenet", (1, 28, 28), 10, 0).eval()
    network = quantised(model, digits.x_val[::10] + 0.5 * torch.randn(digits.x_val[::10].shape))

    def certified(**tricks):
        return certify(model, x, y, 0.5, n=1130, n0=30, quick=network, **tricks)

    rows = certified()
    assert (rows["precision"] == "int8").all() and (counts_of(rows).sum(1) == 1130).all()
    noise = torch.cat(list(noise_blocks(x.shape[1:], 0.5, 1130, (0, 1), "cpu")))
    with torch.inference_mode():
        bare = np.stack([network(image + noise).argmax(1).bincount(minlength=10) for image in x])
    for tricks in ({}, {"batch": 77}, {"batch": 1000}):  # a last bit of the sum may move a rounding
        again = certified(**tricks)
        assert np.abs(counts_of(again) - bare).sum() <= 0.01 * bare.sum()


@vnni
def test_with_a_safe_margin_the_votes_are_those_of_float32(digits):
    x, y = digits.x_test[::100], digits.y_test[::100]
    model = make_model("lenet", (1, 28, 28), 10, 0).eval()  # untrained: its margins are small
    seen = digits.x_val[::10] + 0.5 * torch.randn(digits.x_val[::10].shape)
    network = quantised(model, seen)
    with torch.inference_mode():
        difference = (model(seen) - network(seen)).abs().max().item()
    margin = safe_margin(model, network, seen)
    assert margin == pytest.approx(4 * difference, rel=1e-3) and margin > 0
    exact, alone, pair = (
        counts_of(certify(model, x, y, 0.5, n=1130, n0=30, **more))
        for more in ({}, {"quick": network}, {"quick": network, "margin": margin})
    )
    assert np.abs(pair - exact).sum() <= 2 < np.abs(alone - exact).sum()


def told(precision, sigma=0.5, n=1000, compiled=None):
    return SimpleNamespace(precision=precision, sigma=sigma, n=n, compiled=compiled)


@vnni
def test_auto_pairs_networks_where_it_pays_and_where_it_can():
    splits = SimpleNamespace(x_val=torch.rand(30, 1, 28, 28))
    model, odd = make_model("lenet", (1, 28, 28), 10, 0).eval(), nn.Sequential(nn.Flatten()).eval()
    pays = COMPILE_FROM // 1000
    pair = quick_network(told("auto"), splits, pays)(model)
    assert pair["margin"] > 0 and pair["quick"](splits.x_val).shape == (30, 10)
    assert quick_network(told("auto"), splits, pays - 1)(model) == {}
    assert quick_network(told("auto", compiled=False), splits, pays)(model) == {}
    assert quick_network(told("auto"), splits, pays)(odd) == {}
    assert quick_network(told("float32"), splits, pays)(model) == {}
    assert quick_network(told("int8"), splits, 1)(model)["margin"] == 0
    assert quick_network(told("mixed"), splits, 1)(model)["margin"] > 0
    with pytest.raises(ValueError, match="precision must be float32 for this network"):
        quick_network(told("mixed"), splits, 1)(odd)


@vnni
def test_the_compiler_gets_the_right_shapes():
    """Graph capture with the declared shapes and strides, without the minutes of C++."""
    x = torch.rand(20, 1, 28, 28)
    model = make_model("lenet", (1, 28, 28), 10, 0).eval()
    network = quantised(model, x)
    votes = Votes(model, x, 10, quick=network)
    captured = torch.compile(votes.first[0], backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        lifted = votes.lift(x).contiguous()
        torch.testing.assert_close(captured(lifted), network(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("missing", ["flag", "sums"])
def test_without_the_instructions_it_is_refused(monkeypatch, missing):
    if missing == "flag":
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    else:  # sums that saturate
        monkeypatch.setattr(int8.Int8, "forward", lambda self, x: x.new_tensor([[32.4]]))
    int8.supported.cache_clear()
    try:
        with pytest.raises(ValueError, match="precision int8 needs a CPU with VNNI"):
            quantised(make_model("lenet", (1, 28, 28), 10, 0), torch.rand(2, 1, 28, 28))
        with pytest.raises(ValueError, match="take float32"):  # before any training
            quick_network(told("int8"), SimpleNamespace(x_val=torch.rand(2, 1, 28, 28)), 1)
        auto = quick_network(told("auto"), SimpleNamespace(x_val=torch.rand(2, 1, 28, 28)), 10**6)
        assert auto(None) == {}
    finally:
        int8.supported.cache_clear()


@vnni
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("layer", [1, 4, 8, 10])
def test_a_diverged_network_is_refused(layer, value):
    model = make_model("lenet", (1, 28, 28), 10, 0)
    with torch.no_grad():
        model[layer].weight[(0,) * model[layer].weight.ndim] = value
    with pytest.raises(ValueError, match="must be finite"):
        quantised(model, torch.rand(2, 1, 28, 28))


@vnni
def test_an_overflow_is_refused():
    model = make_model("lenet", (1, 28, 28), 10, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e20)
    with pytest.raises(ValueError, match="must be finite"):
        quantised(model, torch.rand(2, 1, 28, 28))


@vnni
@torch.inference_mode()
def test_what_cannot_be_quantised_stays_as_it_is():
    odd = [
        nn.Conv2d(1, 4, 3, padding="same"),
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d((2, 2)),
        nn.Flatten(2),
    ]
    images = torch.rand(6, 1, 7, 7) + 0.2 * torch.randn(6, 1, 7, 7)
    for layer in odd:
        width = layer(images)[0].flatten().numel()
        model = nn.Sequential(nn.ReLU(), layer, nn.Flatten(), nn.Linear(width, 5))
        network = quantised(model, images)
        assert (network(images) - model(images)).abs().max() < 0.1 * model(images).std()
    with pytest.raises(ValueError, match="no convolution or dense layer"):
        quantised(nn.Sequential(nn.Flatten(), nn.Linear(49, 3)), images)


class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked():
    layer = nn.Conv2d(4, 4, 3, padding=1)
    layer.register_forward_hook(lambda layer, inputs, output: -output)
    return layer


@vnni
@pytest.mark.parametrize(
    "odd",
    [
        lambda: Skip(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)),
        lambda: Doubled(4, 4, 3, padding=1),
        hooked,
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1)),
    ],
    ids=["a forward of a sequence", "a forward of a layer", "a hook", "a parametrisation"],
)
@torch.inference_mode()
def test_layers_with_ways_of_their_own_keep_them(odd):
    images = torch.rand(20, 1, 7, 7) + 0.2 * torch.randn(20, 1, 7, 7)
    first = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
    model = nn.Sequential(*first, odd(), nn.ReLU(), nn.Flatten(), nn.Linear(196, 5)).eval()
    network = quantised(model, images)
    assert any(isinstance(layer, Int8) for layer in network.modules())
    assert (network(images) - model(images)).abs().max() < 0.1 * model(images).std()


@vnni
def test_an_integer_network_that_answers_otherwise_is_refused(monkeypatch):
    """Whatever the reason: it would be certified in the place of the network that was given."""
    splits = SimpleNamespace(x_val=torch.rand(30, 1, 28, 28))
    model = make_model("lenet", (1, 28, 28), 10, 0).eval()
    other = quantised(make_model("lenet", (1, 28, 28), 10, 1).eval(), splits.x_val)
    monkeypatch.setattr("study.setup.quantised", lambda model, images: other)
    with pytest.raises(SettingsError, match="precision must be float32 or mixed for this network"):
        quick_network(told("int8"), splits, 1)(model)


@vnni
def test_one_architecture_is_compiled_once():
    graphs, x = [], torch.rand(20, 1, 28, 28)

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    run = torch.compile(lambda network, x: network(x), backend=backend, dynamic=False)
    with torch.inference_mode():
        for seed in range(3):
            network = quantised(make_model("lenet", (1, 28, 28), 10, seed).eval(), x * (1 + seed))
            torch.testing.assert_close(run(network, x), network(x))
    assert len(graphs) == 1


@vnni
def test_calibration_meets_no_noise_of_a_certificate(monkeypatch):
    """torch's generator knows a seed's low 32 bits only, so a large seed would not do."""
    x_val, seen = torch.zeros(30, 1, 28, 28), {}
    monkeypatch.setattr("study.setup.quantised", lambda model, images: seen.update(images=images))
    monkeypatch.setattr("study.setup.safe_margin", lambda model, quick, images: 0.0)
    quick_network(told("mixed", sigma=1.0), SimpleNamespace(x_val=x_val), 1)(None)
    drawn = torch.cat(
        [
            torch.cat(list(noise_blocks((1, 28, 28), 1.0, 30, (seed, stage), "cpu")))
            for seed in range(3)
            for stage in (0, 1)
        ]
    )
    assert (
        len(np.intersect1d(seen["images"].numpy(), drawn.numpy())) < 0.05 * seen["images"].numel()
    )


def test_the_module_can_be_reloaded():
    reload = "import importlib, torch, pacd.int8; importlib.reload(pacd.int8)"
    code = f"{reload}; torch.ops.pacd.dense"
    subprocess.run([sys.executable, "-c", code], check=True)
