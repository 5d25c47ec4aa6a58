"""The trainers. Each is one pure loss, for victims and, unchanged, as the attack's inner objective.

Signature: ``loss(model, x, y, *, sigma, generator, epoch) -> scalar`` with x of shape (N, C, H, W)
in [0, 1], y of shape (N,), sigma in pixel units; ``epoch`` (int) matters only to warm-ups, and None
means after them; the number of such epochs is the trainer's option ``warmup``. All noise comes
from ``generator``. Further parameters are the trainer's options.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge

from pacd.smoothing import margin, noisy

Whole = Annotated[int, Ge(0)]


def standard(model, x, y, *, sigma, generator, epoch=None):
    """Cross-entropy on clean images; sigma is not used."""
    return F.cross_entropy(model(x), y)


def gaussian(model, x, y, *, sigma, generator, epoch=None):
    """Gaussian augmentation (Cohen et al., arXiv 1902.02918): one noisy copy of each image."""
    return F.cross_entropy(model(noisy(x, sigma, 1, generator)), y)


def smoothadv(
    model, x, y, *, sigma, generator, epoch=None, steps=2, radius=1.0, draws=1, warmup: Whole = 10
):
    """SmoothAdv-PGD (Salman et al., arXiv 1906.04584, eq. 7 and algorithm 1).

    PGD ascends -log of the softmax averaged over ``draws`` frozen noise draws, inside an L2 ball of
    ``radius`` (pixel units) that grows linearly over ``warmup`` epochs; the loss is the
    cross-entropy of the attacked images under the same draws.

    The adversarial step is constant in x and in the weights: a hypergradient sees x -> x + step
    with d step / dx = 0, the approximation that adversarial training itself makes. It is found in
    evaluation mode, against the network that will be certified: the attack on one image neither
    depends on its batch nor moves the averages of batch norm.
    """
    if warmup and epoch is not None:
        radius *= min(1.0, (epoch + 1) / warmup)
    noise = noisy(torch.zeros_like(x), sigma, draws, generator)
    training = model.training
    model.eval()
    step = ascend(model, x.detach(), y, noise, radius, steps, draws)
    model.train(training)
    logits = model((x + step).repeat_interleave(draws, 0) + noise)
    return F.cross_entropy(logits, y.repeat_interleave(draws))


def ascend(model, x, y, noise, radius, steps, draws):
    """L2-PGD on the smoothed classifier (Salman et al., eq. 7), inside the ball and [0, 1].

    Steps of length 2 * radius / steps ascend -log of the softmax averaged over frozen draws.

    Parameters
    ----------
    model : callable
    x, y : tensors of shape (N, C, H, W) and (N,)
    noise : tensor of shape (N * draws, C, H, W)
        The draws of one image are neighbours.
    radius : float
        Of the L2 ball, pixel units.
    steps, draws : int

    Returns
    -------
    tensor of shape (N, C, H, W), the change
    """
    step = torch.zeros_like(x)
    for _ in range(steps):
        step.requires_grad_()
        logits = model((x + step).repeat_interleave(draws, 0) + noise).log_softmax(1)
        # The log of the mean softmax, up to a constant.
        log_mean = logits.view(len(x), draws, -1).logsumexp(1)
        (gradient,) = torch.autograd.grad(F.nll_loss(log_mean, y, reduction="sum"), step)
        step = step.detach() + 2 * radius / steps * gradient / _length(gradient)
        step = step * (radius / _length(step)).clamp(max=1)
        step = (x + step).clamp(0, 1) - x
    return step.detach()


def _length(images):
    """L2 norm of each image, (N, 1, 1, 1), above 0."""
    return images.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)


def macer(
    model,
    x,
    y,
    *,
    sigma,
    generator,
    epoch=None,
    draws=16,
    lam=16.0,
    beta=16.0,
    gamma=8.0,
    deferral: Whole = 0,
):
    """MACER (Zhai et al., arXiv 2001.02378, eq. 11 and algorithm 1).

    -log of the mean softmax, plus lam * sigma / 2 * max(gamma - margin, 0) on correctly classified
    images, the margin taken at temperature ``beta``. An image whose margin is not finite or above
    ``gamma`` adds no robustness loss, so saturation never reaches the gradient. The first
    ``deferral`` epochs have the first term alone.
    """
    logits = model(noisy(x, sigma, draws, generator)).view(len(x), draws, -1)  # (N, k, classes)
    # Summed in the log domain: a saturated softmax would put 0 * inf into the gradient.
    classification = F.nll_loss(logits.log_softmax(2).logsumexp(1) - math.log(draws), y)
    if epoch is not None and epoch < deferral:
        return classification
    p = (beta * logits).softmax(2).mean(1)
    # ndtri has an infinite slope at 0 and 1; the clamp keeps it out of the graph, 1e-7 being a
    # margin above gamma.
    xi = margin(p.clamp(1e-7, 1 - 1e-7), y)
    counted = (p.argmax(1) == y) & (xi < gamma)
    robustness = torch.where(counted, gamma - xi, 0).sum() / len(x)
    return classification + lam * sigma / 2 * robustness


TRAINERS = {"standard": standard, "gaussian": gaussian, "smoothadv": smoothadv, "macer": macer}
