"""What curators and trainers of the literature do against shortcuts, beside those of the study.

A curator is ``clean(x, y) -> x, y`` as in :mod:`pacd.curation`, named by its path:
``curation: extras.curators:squeezed``. A trainer has the form of :mod:`pacd.losses`:
``trainer: extras.curators:brightness_jitter``. x has shape (N, C, H, W) in [0, 1], y shape (N,).
"""

import numpy as np
import torch
import torch.nn.functional as F

from pacd.curation import jpeg
from pacd.smoothing import noisy


def grey(x, y):
    """The mean of the channels in each of them (Liu et al., arXiv 2301.13838).

    It takes away what differs by channel, and nothing of a grey image.
    """
    return x.mean(1, keepdim=True).expand_as(x).contiguous(), y


def squeezed(x, y, quality=10):
    """Image shortcut squeezing: grey, then JPEG (Liu et al., arXiv 2301.13838)."""
    return jpeg(*grey(x, y), quality=quality)


def denoised(x, y, weight=0.1):
    """Total-variation denoising of each channel (Chambolle, J. Math. Imaging Vis. 20, 2004).

    It minimises |u - x|^2 / 2 + ``weight`` * TV(u), pixel units. A band of w pixels fades by
    2 * ``weight`` / w. So 0.1 takes noise of single pixels at the study's eps away, and less than a
    tenth of a stroke of three pixels.
    """
    from skimage.restoration import denoise_tv_chambolle  # slow to import

    cleaned = [denoise_tv_chambolle(image, weight, channel_axis=0) for image in x.cpu().numpy()]
    return torch.from_numpy(np.stack(cleaned)).to(x).clamp(0, 1), y  # rounding may leave [0, 1]


def adversarial_augmentation(model, x, y, *, sigma, generator, epoch=None, draws=5):
    """UEraser (Qin et al., arXiv 2303.15127): the worst of several random augmentations.

    Of ``draws`` augmentations of each image, each under one draw of Gaussian noise, the one with
    the largest cross-entropy counts. The augmentations are the paper's by their kind, not its
    code's: channels in random order, another contrast, a smooth random change of brightness.
    """
    copies = augmented(x.repeat_interleave(draws, 0), generator)
    logits = model(noisy(copies, sigma, 1, generator))
    losses = F.cross_entropy(logits, y.repeat_interleave(draws), reduction="none")
    return losses.view(len(x), draws).amax(1).mean()


def augmented(x, generator, contrast=0.5, brightness=0.2, cells=4):
    """Each image with its channels shuffled, and another contrast and brightness; as x.

    Parameters
    ----------
    x : tensor of shape (N, C, H, W)
    generator : torch.Generator
    contrast : float
        Pixels are stretched about their mean by a factor between 1 - contrast and 1 + contrast.
    brightness : float
        Standard deviation of the change, pixel units, on ``cells`` x ``cells`` points between which
        it is interpolated.
    cells : int

    Returns
    -------
    tensor of shape (N, C, H, W), in [0, 1]
    """
    count, channels = x.shape[:2]
    options = {"generator": generator, "device": x.device}
    order = torch.rand(count, channels, **options).argsort(1)
    x = x.take_along_dim(order[:, :, None, None], 1)
    factor = 1 + contrast * (2 * torch.rand(count, 1, 1, 1, **options) - 1)
    mean = x.mean((1, 2, 3), keepdim=True)
    coarse = brightness * torch.randn(count, 1, cells, cells, **options)
    change = F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
    return (mean + factor * (x - mean) + change).clamp(0, 1)


def brightness_jitter(model, x, y, *, sigma, generator, epoch=None, size=0.2, per_channel=False):
    """Gaussian augmentation of images whose brightness was changed at random.

    An offset from [-size, size] (pixel units) is added to each image, or to each of its channels.
    A poison that brightens a class then says less of the class than it did. The default is twice
    the study's eps. No source: the obvious answer to a uniform poison.
    """
    channels = x.shape[1] if per_channel else 1
    draws = torch.rand(len(x), channels, 1, 1, generator=generator, device=x.device)
    jittered = x + size * (2 * draws - 1)
    return F.cross_entropy(model(noisy(jittered, sigma, 1, generator)), y)
