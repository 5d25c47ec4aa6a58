"""The trainers' losses against values computed by hand, with numpy, on a fixed network."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from pacd import losses
from pacd.models import make_model

SIGMA = 0.5


def network():
    """Logits (a, -a, 0) with a = 3 * (mean pixel): simple enough for numpy."""

    class Mean(nn.Module):
        def forward(self, x):
            a = 3 * x.flatten(1).mean(1)
            return torch.stack([a, -a, torch.zeros_like(a)], 1)

    return Mean()


def data():
    x = torch.tensor([0.2, 0.9, 0.4]).view(3, 1, 1, 1).expand(3, 1, 2, 2).contiguous()
    return x, torch.tensor([0, 0, 1])


def generator():
    return torch.Generator().manual_seed(5)


def logits(draws):
    """(N, draws, classes) under the noise that the losses draw."""
    x, _ = data()
    noisy = x.repeat_interleave(draws, 0) + SIGMA * torch.randn(
        3 * draws, 1, 2, 2, generator=generator()
    )
    a = 3 * noisy.flatten(1).mean(1).double().numpy()
    return np.stack([a, -a, 0 * a], 1).reshape(3, draws, 3)


def softmax(z):
    e = np.exp(z)
    return e / e.sum(-1, keepdims=True)


def value(loss, **options):
    x, y = data()
    return loss(network(), x, y, sigma=SIGMA, generator=generator(), **options).item()


def test_standard_and_gaussian():
    x, y = data()
    a = 3 * x.flatten(1).mean(1).double().numpy()
    clean = softmax(np.stack([a, -a, 0 * a], 1))
    assert value(losses.standard) == pytest.approx(-np.log(clean[range(3), y]).mean(), rel=1e-5)
    p = softmax(logits(1)[:, 0])
    assert value(losses.gaussian) == pytest.approx(-np.log(p[range(3), y]).mean(), rel=1e-5)


def test_macer():
    y, z = data()[1].numpy(), logits(4)
    classification = -np.log(softmax(z).mean(1)[range(3), y]).mean()
    p = np.sort(softmax(16 * z).mean(1), 1)
    xi = norm.ppf(p[:, -1]) - norm.ppf(p[:, -2])
    right = softmax(16 * z).mean(1).argmax(1) == y
    assert right.any() and not right.all()
    hinge = np.where(right & np.isfinite(xi) & (xi < 8), 8 - xi, 0).sum() / 3
    expected = classification + 12 * SIGMA / 2 * hinge
    assert value(losses.macer, draws=4, lam=12.0) == pytest.approx(expected, rel=1e-4)


def test_deferred_macer_begins_with_the_classification_alone():
    classification = -np.log(softmax(logits(4)).mean(1)[range(3), data()[1]]).mean()
    early, later, undated = (
        value(losses.macer, draws=4, deferral=2, epoch=epoch) for epoch in (1, 2, None)
    )
    assert early == pytest.approx(classification, rel=1e-5)
    assert later == undated == value(losses.macer, draws=4) != early


def test_macer_ignores_saturated_images_and_stays_finite():
    class Saturated(nn.Module):
        def forward(self, x):
            return network()(x) * scale

    scale = torch.tensor(1e4, requires_grad=True)
    x, _ = data()
    loss = losses.macer(
        Saturated(), x + 1, torch.tensor([0, 0, 0]), sigma=0.01, generator=generator()
    )
    (gradient,) = torch.autograd.grad(loss, scale)
    assert loss.item() == pytest.approx(0, abs=1e-6) and torch.isfinite(gradient)


def test_smoothadv_moves_along_the_gradient_by_its_radius():
    """Here class 0's loss falls in the mean pixel: PGD lowers 4 equal pixels by radius / 2."""
    x, y = data()
    noise = torch.zeros(6, 1, 2, 2)
    step = losses.ascend(network(), x, y, noise, radius=0.2, steps=2, draws=2)
    direction = torch.tensor([-1.0, -1.0, 1.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(step, direction * 0.1 * torch.ones_like(x), rtol=1e-4, atol=1e-6)
    p = softmax(
        logits(1)[:, 0] + 3 * 0.1 * direction.numpy().reshape(3, 1) * np.array([[1, -1, 0]])
    )
    expected = -np.log(p[range(3), y]).mean()
    assert value(losses.smoothadv, radius=0.2) == pytest.approx(expected, rel=1e-4)


class Watched(nn.Module):
    """Logits (w . x, 0): the loss of class 0 rises straight along -w. It keeps what it is given."""

    def __init__(self, *direction):
        super().__init__()
        self.direction, self.images = torch.tensor(direction), []

    def forward(self, x):
        self.images.append(x.detach().flatten(1))
        score = x.flatten(1) @ self.direction
        return torch.stack([score, 0 * score], 1)


def path_of(model, x, radius, steps):
    """Changes of one image without noise: those at which gradients are taken, and the result."""
    x = torch.tensor(x).view(1, 1, 1, 2)
    noise = torch.zeros(2, 1, 1, 2)
    change = losses.ascend(model, x, torch.tensor([0]), noise, radius, steps, draws=2)
    return [images[0] - x.flatten() for images in model.images] + [change.flatten()]


def test_steps_add_up_to_twice_the_radius_and_end_on_the_ball():
    """Radius 0.2 in eight steps of 0.05: the fourth reaches the ball, and the others stay on it."""
    path = path_of(Watched(-0.6, -0.8), [0.4, 0.4], radius=0.2, steps=8)
    lengths = [change.norm().item() for change in path]
    assert lengths == pytest.approx([0.05 * min(i, 4) for i in range(9)], abs=1e-6)
    torch.testing.assert_close(path[-1], torch.tensor([0.12, 0.16]))


def test_attacked_images_stay_between_black_and_white():
    """The first pixel may rise by 0.05 only, and ends white; the second is black and would fall."""
    path = path_of(Watched(-0.6, 0.8), [0.95, 0.0], radius=0.2, steps=4)
    torch.testing.assert_close(path[-1], torch.tensor([0.05, 0.0]))


def test_smoothadv_attacks_and_trains_under_the_same_noise():
    """All three passes see one draw: without a radius they see the same images."""
    x, y = data()
    model = network()
    images, forward = [], model.forward
    model.forward = lambda x: (images.append(x.detach()), forward(x))[1]
    losses.smoothadv(model, x, y, sigma=SIGMA, generator=generator(), radius=0.0, steps=2, draws=3)
    assert len(images) == 3 and images[0].shape == (9, 1, 2, 2)
    torch.testing.assert_close(images[2], images[0])
    torch.testing.assert_close(images[1], images[0])


def test_smoothadv_attacks_the_network_that_is_certified():
    """In evaluation mode, where an image's step does not depend on its batch.

    A training step moves batch norm's averages once.
    """
    x, y = torch.rand(8, 3, 16, 16, generator=generator()), torch.arange(8)
    model = make_model("resnet20", (3, 16, 16), 10, 0)
    norm = next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))
    losses.gaussian(model, x, y, sigma=SIGMA, generator=generator())
    once = norm.running_mean.clone()
    attacked = make_model("resnet20", (3, 16, 16), 10, 0)
    losses.smoothadv(attacked, x, y, sigma=SIGMA, generator=generator(), radius=0.0, steps=3)
    norm = next(layer for layer in attacked.modules() if isinstance(layer, nn.BatchNorm2d))
    torch.testing.assert_close(norm.running_mean, once)
    assert norm.num_batches_tracked == 1 and attacked.training
    assert (
        not losses.smoothadv(attacked.eval(), x, y, sigma=SIGMA, generator=generator()).isnan()
        and not attacked.training
    )


def test_smoothadv_warms_up_linearly():
    x, y = data()
    half = losses.smoothadv(
        network(), x, y, sigma=SIGMA, generator=generator(), epoch=4, radius=0.2, warmup=10
    )
    assert half.item() == pytest.approx(value(losses.smoothadv, radius=0.1), rel=1e-5)
