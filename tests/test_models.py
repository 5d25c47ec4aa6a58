import pytest
import torch
from torch import nn

from pacd.models import MODELS, Residual, make_model

COUNTS = {  # weights and biases, counted by hand from the papers' tables
    "lenet": 20 * 25 + 20 + 50 * 500 + 50 + 800 * 500 + 500 + 5010,
    "resnet20": 269_722,  # 0.27 M in table 6 of He et al.
    "resnet56": 853_018,  # 0.85 M
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_every_network_takes_every_data_set_and_its_seed(name, shape):
    x = torch.rand(2, *shape)
    model, again, other = (make_model(name, shape, 7, seed).eval() for seed in (0, 0, 1))
    assert model(x).shape == (2, 7)
    assert torch.equal(model(x), again(x)) and not torch.equal(model(x), other(x))


@pytest.mark.parametrize(
    "name, mean, std", [("centred", 0.5, 0.5), ("none", 0, 1), ("mnist", 0.1307, 0.3081)]
)
def test_the_first_layer_scales_as_asked_and_the_weights_stay(name, mean, std):
    x = torch.rand(2, 1, 28, 28)
    model = make_model("lenet", (1, 28, 28), 10, 0, name).eval()
    assert torch.allclose(
        model(x),
        make_model("lenet", (1, 28, 28), 10, 0, "none").eval()((x - mean) / std),
        atol=1e-5,
    )


@pytest.mark.parametrize("name", COUNTS)
def test_sizes_are_those_of_the_papers(name):
    shape = (1, 28, 28) if name == "lenet" else (3, 32, 32)
    assert sum(p.numel() for p in make_model(name, shape, 10, 0).parameters()) == COUNTS[name]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_that_adds_nothing_is_its_shortcut(stride):
    """Every second pixel at stride 2, and zeros for the new channels."""
    block = Residual(3, 3 * stride, stride)
    nn.init.zeros_(block.branch[-1].weight)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 3 * stride, 8 // stride, 8 // stride)
    expected[:, :3] = x[:, :, ::stride, ::stride].relu()
    torch.testing.assert_close(block(x), expected)


def test_batch_norm_works():
    """In train mode it normalises by the batch, in eval mode by its averages, which it learns."""
    model = make_model("resnet20", (3, 32, 32), 10, 0)
    norm = next(m for m in model if isinstance(m, nn.BatchNorm2d))
    x = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = norm.running_mean.clone()
    in_train = model.train()(x)
    assert not torch.equal(norm.running_mean, before)
    assert not torch.allclose(model.eval()(x), in_train)
    assert torch.allclose(
        model(x)[:4], model(x[:4]), atol=1e-5
    )  # in eval mode an image does not see its batch


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    make_model("lenet", (1, 28, 28), 10, 5)
    assert torch.equal(torch.rand(1), expected)


def layers(model):
    return [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]


@pytest.mark.parametrize("name", ["lenet", "mlp", "cnn", "vgg"])
def test_weights_are_glorot_uniform_and_biases_zero(name):
    """Within +- sqrt(6 / (inputs + outputs)), which is sqrt(3) standard deviations."""
    for layer in layers(make_model(name, (1, 32, 32), 10, 0)):
        weight = layer.weight.detach()
        field = weight[0, 0].numel()
        limit = (6 / (field * (weight.shape[0] + weight.shape[1]))) ** 0.5
        assert 0.97 * limit < weight.abs().max() <= limit
        assert weight.std() == pytest.approx(limit / 3**0.5, rel=0.1)
        assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_a_resnets_weights_are_he_normal_cut_at_two_deviations(name):
    """Of variance 2 / inputs after the cut, as Keras draws them."""
    for layer in layers(make_model(name, (3, 32, 32), 10, 0)):
        weight = layer.weight.detach()
        deviation = (2 / weight[0].numel()) ** 0.5
        assert weight.std() == pytest.approx(deviation, rel=0.1)
        assert weight.abs().max() <= 2 * deviation / 0.8796
        assert layer.bias is None or not layer.bias.any()


class Doubled(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_builders_network_keeps_its_own_forward(monkeypatch):
    """Unpacked into a plain sequence it would be another network."""
    build = MODELS["lenet"]
    monkeypatch.setitem(MODELS, "lenet", lambda *told: Doubled(*build(*told)))
    x = torch.rand(2, 1, 28, 28)
    doubled = make_model("lenet", (1, 28, 28), 10, 0)(x)
    monkeypatch.setitem(MODELS, "lenet", build)
    torch.testing.assert_close(doubled, 2 * make_model("lenet", (1, 28, 28), 10, 0)(x))
