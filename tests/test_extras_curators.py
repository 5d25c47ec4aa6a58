"""Other people's curators and trainers against what can be computed by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from extras import curators
from extras.curators import augmented, denoised, grey, squeezed
from pacd.smoothing import noisy
from study import named
from study.parameters import SettingsError
from study.setup import trainer

SIGMA = 0.5


def generator(seed=5):
    return torch.Generator().manual_seed(seed)


def colours(count=4, side=16):
    """Random images away from 0 and 1, (count, 3, side, side), and their labels."""
    x = 0.4 + 0.2 * torch.rand(count, 3, side, side, generator=generator(0))
    return x, torch.arange(count) % 3


# ---- curators ----


def test_grey_takes_away_a_tint_whose_channels_cancel():
    x, y = colours()
    tint = torch.tensor([0.1, -0.04, -0.06]).view(1, 3, 1, 1)
    (clean, labels), (tinted, _) = grey(x, y), grey(x + tint, y)
    torch.testing.assert_close(tinted, clean)
    np.testing.assert_allclose(clean[:, 2], x.double().mean(1), atol=1e-6)
    assert torch.equal(labels, y) and clean.shape == x.shape
    assert torch.equal(grey(x[:, :1], y)[0], x[:, :1])


def test_squeezing_leaves_no_colour_and_no_fine_texture():
    """Grey of 128 has no DCT coefficient, and those of a faint board are below half a step.

    The largest one, of pixels that alternate by 13 levels, is about 13 * 8 = 104, and at quality
    10 its step is 495. A channel that is bright where another is dark is grey to begin with.
    """
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2 - 1.0
    x = 128 / 255 + 0.05 * board.expand(1, 3, 16, 16)
    y = torch.zeros(1)
    flat = torch.full_like(x, 128 / 255)
    torch.testing.assert_close(squeezed(x, y)[0], flat)
    opposite = 128 / 255 + 0.4 * torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1) * board
    torch.testing.assert_close(squeezed(opposite, y)[0], flat)
    assert (squeezed(x, y, quality=95)[0] - flat).abs().max() > 0.04


@pytest.mark.parametrize("width, weight", [(4, 0.1), (2, 0.1), (4, 0.3)])
def test_total_variation_fades_a_band_by_its_length_of_border(width, weight):
    """u loses weight * border / area: 2 * weight / w in the band, and its surroundings gain it."""
    x = torch.zeros(1, 1, 28, 28)
    x[..., 12 : 12 + width] = 0.9
    cleaned, _ = denoised(x, torch.zeros(1), weight=weight)
    assert cleaned.dtype == torch.float32 and cleaned.shape == x.shape
    inside = cleaned[0, 0, 14, 12 : 12 + width]
    np.testing.assert_allclose(inside, 0.9 - 2 * weight / width, atol=0.01)
    np.testing.assert_allclose(cleaned.mean(), x.mean(), atol=0.002)


def test_denoising_takes_single_pixels_away_in_the_channel_where_they_are():
    """A pixel has four sides: it would fade by 4 * 0.1, and stands out by 0.1 alone."""
    x = torch.full((1, 3, 15, 15), 0.5)
    x[0, 1, 7, 7] += 0.1
    cleaned, _ = denoised(x, torch.zeros(1))
    assert (cleaned[0, 1] - 0.5).abs().max() < 0.005
    assert torch.equal(cleaned[0, ::2], x[0, ::2])


# ---- trainers ----


class Mean(nn.Module):
    """Logits (a, -a, 0), a = 8 * (mean pixel - 1/2)."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(8.0))

    def forward(self, x):
        a = self.slope * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([a, -a, torch.zeros_like(a)], 1)


def losses(images, y):
    """Cross-entropy of :class:`Mean` by numpy, one for each image."""
    a = 8 * (images.double().flatten(1).mean(1).numpy() - 0.5)
    z = np.stack([a, -a, 0 * a], 1)
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]


def value(name, x, y, **options):
    loss = trainer(f"extras.curators:{name}", options, SIGMA)
    return loss(Mean(), x, y, generator=generator())


def test_trainers_have_the_form_that_the_study_takes_and_options():
    for name in ("adversarial_augmentation", "brightness_jitter"):
        assert named.fits(getattr(curators, name), named.LOSS)
    with pytest.raises(SettingsError, match="unknown parameter 'draw'; did you mean 'draws'"):
        trainer("extras.curators:adversarial_augmentation", {"draw": 3}, SIGMA)


@pytest.mark.parametrize("draws", [1, 3])
def test_the_worst_augmentation_of_each_image_counts(draws):
    x, y = colours(6)
    drawn = generator()
    copies = noisy(augmented(x.repeat_interleave(draws, 0), drawn), SIGMA, 1, drawn)
    each = losses(copies, np.repeat(y.numpy(), draws)).reshape(6, draws)
    worst = value("adversarial_augmentation", x, y, draws=draws).item()
    assert worst == pytest.approx(each.max(1).mean(), rel=1e-5)
    assert draws == 1 or worst > each.mean() + 0.05


def test_an_augmentation_shuffles_channels_of_each_image_apart():
    """Without contrast and brightness they are the image's own, in each of six orders."""
    x = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1).expand(200, 3, 4, 4)
    changed = augmented(x, generator(), contrast=0.0, brightness=0.0)
    found = {tuple(row) for row in changed[:, :, 1, 2].mul(10).round().int().tolist()}
    assert len(found) == 6 and all(sorted(row) == [2, 5, 8] for row in found)


def test_an_augmentation_stretches_about_the_mean():
    """By factors that are uniform between 0.5 and 1.5: mean 1, deviation 1 / sqrt(12)."""
    x = colours(300, side=8)[0][:, :1]
    changed = augmented(x, generator(), brightness=0.0)
    torch.testing.assert_close(changed.mean((1, 2, 3)), x.mean((1, 2, 3)))
    factors = changed.flatten(1).std(1) / x.flatten(1).std(1)
    assert 0.5 <= factors.min() < 0.53 and 1.47 < factors.max() <= 1.5
    assert factors.std() == pytest.approx(12**-0.5, abs=0.03)


def test_an_augmentation_changes_brightness_smoothly():
    """By 0.05 at 4 x 4 points; a pixel between them moves a quarter of a cell from its neighbour.

    So neighbours differ by a quarter of a difference of two draws, sqrt(2) / 4 * 0.05, at most.
    """
    x = torch.full((200, 1, 16, 16), 0.5)
    change = augmented(x, generator(), contrast=0.0, brightness=0.05) - 0.5
    corners = change[:, :, 0, 0]  # no point lies beyond them, so they are draws
    assert corners.std() == pytest.approx(0.05, rel=0.15)
    steps = change[:, :, 1:] - change[:, :, :-1]
    assert 0 < steps.std() < 2**0.5 / 4 * 0.05


def test_augmented_images_stay_in_range_and_pass_a_gradient():
    x, y = colours()
    far = augmented(2 * x, generator(), brightness=2.0)
    assert far.min() == 0 and far.max() == 1
    x.requires_grad_()
    value("adversarial_augmentation", x, y).backward()
    assert x.grad.flatten(1).abs().amax(1).min() > 0  # of every image


@pytest.mark.parametrize("per_channel", [False, True])
def test_brightness_moves_before_the_noise(per_channel):
    x, y = colours(6)
    drawn = generator()
    offsets = torch.rand(6, 3 if per_channel else 1, 1, 1, generator=drawn) * 0.6 - 0.3
    images = x + offsets + SIGMA * torch.randn(x.shape, generator=drawn)
    found = value("brightness_jitter", x, y, size=0.3, per_channel=per_channel).item()
    assert found == pytest.approx(losses(images, y.numpy()).mean(), rel=1e-5)
