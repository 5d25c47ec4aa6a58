"""Differentiable randomized smoothing, shared by the attack and MACER; and an image's blur."""

import torch


def noisy(x, sigma, draws, generator):
    """Images under Gaussian noise.

    Parameters
    ----------
    x : tensor of shape (N, C, H, W)
    sigma : float
        Standard deviation of the noise, pixel units.
    draws : int
        Noise draws for each image, k.
    generator : torch.Generator
        On the device of ``x``.

    Returns
    -------
    tensor of shape (N * k, C, H, W); the k draws of one image are neighbours.
    """
    x = x.repeat_interleave(draws, dim=0) if draws > 1 else x
    return x + sigma * torch.randn(x.shape, generator=generator, device=x.device)


def soft_probabilities(model, x, sigma, draws, generator, temperature=1.0):
    """Softmax(temperature * logits) averaged over the noise draws; (N, classes)."""
    logits = model(noisy(x, sigma, draws, generator))  # (N * k, classes)
    return (temperature * logits).softmax(1).view(len(x), draws, -1).mean(1)


def margin(probabilities, y):
    """Probit margin of the true class, Phi^-1(p_y) - Phi^-1(max of the others); (N,).

    Negative for a misclassified image, so its gradient does not vanish there.
    """
    true = probabilities.gather(1, y[:, None]).squeeze(1)
    other = probabilities.scatter(1, y[:, None], 0).amax(1)
    return torch.special.ndtri(true) - torch.special.ndtri(other)


def soft_radius(
    model, x, y, sigma, draws, generator, temperature=16.0, squash=1e-3, correct_only=False
):
    """Soft certified radius of each image, the attack's outer objective before averaging.

    sigma / 2 * (Phi^-1(p_y) - Phi^-1(p_other)), p squashed to [squash, 1 - squash] so that a
    saturated image keeps a finite radius. With ``correct_only`` misclassified images count 0,
    as in the authors' code.

    Parameters
    ----------
    model : callable
        (N, C, H, W) to logits (N, classes).
    x, y : tensors of shape (N, C, H, W) and (N,)
    sigma : float
        Noise of the smoothed classifier, pixel units.
    draws : int
        Noise draws for each image.
    generator : torch.Generator
    temperature, squash : float
        16 and 1e-3 in the authors' code.
    correct_only : bool

    Returns
    -------
    tensor of shape (N,), pixel units (L2).
    """
    p = soft_probabilities(model, x, sigma, draws, generator, temperature)
    radius = sigma / 2 * margin((1 - 2 * squash) * p + squash, y)
    return radius.clamp(min=0) if correct_only else radius


def blur(images, deviation):
    """Gaussian blur of each image of a batch (N, C, H, W), ``deviation`` in pixels.

    The kernel is cut off at two deviations, or where a smaller image ends.
    """
    # It takes longer to import than all other packages of a run.
    from torchvision.transforms.functional import gaussian_blur

    reach = min(2 * round(deviation) + 1, min(images.shape[2:]) - 1)
    return gaussian_blur(images, 2 * reach + 1, deviation)
