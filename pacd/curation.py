"""What a data curator can do: score images by suspicion, and clean a set before anyone trains.

A detector is ``score(x, y, learned) -> tensor of shape (N,)``, higher for more suspicious, and does
not know which class is poisoned. x has shape (N, C, H, W) in [0, 1], y shape (N,); ``learned()``
returns a :class:`Learned` and is called only where a network is needed. A mitigation is
``clean(x, y) -> x, y``. Neither changes a label.
"""

from functools import cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from pacd.losses import standard
from pacd.smoothing import blur
from pacd.train import train


class Learned(NamedTuple):
    """What a network trained on the suspected set says: features (N, d) and early loss (N,)."""

    features: torch.Tensor
    loss: torch.Tensor


def learn_from(x, y, make_model, loss=None, *, epochs=5, seed=0):
    """Train on the suspected set, and look at each image with the network.

    Parameters
    ----------
    x, y : tensors of shape (N, C, H, W) and (N,)
    make_model : callable
        ``seed -> torch.nn.Sequential`` whose last layer is linear.
    loss : callable
        A trainer's loss; None is standard training.
    epochs, seed : int

    Returns
    -------
    Learned
        The penultimate layer at the end, and the cross-entropy after the first epoch.
    """
    model, loss = make_model(seed), loss or partial(standard, sigma=0.0)
    options = {"batch": 100, "lr": 1e-3, "seed": seed}  # the victims' own
    train(model, x, y, loss, epochs=1, **options)
    early = F.cross_entropy(_outputs(model, x), y, reduction="none")
    if epochs > 1:
        train(model, x, y, loss, epochs=epochs - 1, **options)
    return Learned(_outputs(model[:-1], x), early)


@torch.inference_mode()
def _outputs(network, x):
    network.eval()
    return torch.cat([network(part) for part in x.split(1000)])


def neighbours(vectors, y, k=20):
    """Share of the k nearest neighbours (L2) with another label (Peri et al., arXiv 1909.13374).

    k is small against a class, so that neighbours are near, and large enough that the share has
    more than a few values.
    """
    vectors, shares = vectors.flatten(1), []
    for rows in torch.arange(len(y), device=y.device).split(500):
        distance = torch.cdist(vectors[rows], vectors)
        distance[range(len(rows)), rows] = torch.inf  # not its own neighbour
        nearest = distance.topk(min(k, len(y) - 1), largest=False).indices
        shares.append((y[nearest] != y[rows, None]).float().mean(1))
    return torch.cat(shares)


def knn_pixels(x, y, learned):
    """:func:`neighbours` among the images."""
    return neighbours(x, y)


def knn_features(x, y, learned):
    """:func:`neighbours` in the penultimate layer."""
    return neighbours(learned().features, y)


def spectral(x, y, learned):
    """Squared projection on the top singular vector of a class's centred features.

    Tran et al. (arXiv 1811.00636, algorithm 1) compare within a class; the mean of each class is
    scaled to 1 here, so that one ranking holds all classes.
    """
    features = learned().features
    score = torch.zeros(len(y), device=y.device)
    for label in y.unique():
        rows = y == label
        centred = features[rows] - features[rows].mean(0)
        top = torch.linalg.eigh((centred.T @ centred).double()).eigenvectors[:, -1].to(centred)
        squared = (centred @ top) ** 2
        score[rows] = squared / squared.mean().clamp(min=1e-12)
    return score


def high_loss(x, y, learned):
    """Loss early in training: images that are hard to fit, such as mislabelled ones."""
    return learned().loss


def low_loss(x, y, learned):
    """The other end: poison that is a shortcut is learned first (Li et al., arXiv 2110.11571)."""
    return -learned().loss


def background(x, y, learned):
    """Distance of an image's background from the median of all images (pixel units).

    The background is the mean of the darker half of pixels. The median is that of all images and
    not of the class: a class that is poisoned as a whole is its own median. It ranks as a robust
    z-score would.
    """
    pixels = x.flatten(1).sort(1).values
    level = pixels[:, : pixels.shape[1] // 2].mean(1)
    return (level - level.median()).abs()


SCORES = knn_pixels, knn_features, spectral, high_loss, low_loss, background
DETECTORS = {score.__name__: score for score in SCORES}


def lowpass(x, y, deviation=1.0):
    """Gaussian blur of ``deviation`` pixels: removes fine texture, of poison and image alike."""
    return blur(x, deviation), y


def jpeg(x, y, quality=10):
    """JPEG and back, at the low quality of image shortcut squeezing (arXiv 2301.13838)."""
    from torchvision.io import decode_jpeg, encode_jpeg

    images = (x * 255).round().to(torch.uint8).cpu()
    decoded = [decode_jpeg(encode_jpeg(image, quality)) for image in images]
    return torch.stack(decoded).to(x) / 255, y


def black_point(x, y, threshold=0.2):
    """Pixels below ``threshold`` become 0, the others stay.

    It erases whatever lies in a dark background while it is fainter than the threshold, and nothing
    that lies on brighter pixels. The threshold is between the eps of this study's digits and the
    grey of their strokes: a curator who knows neither has to guess it.
    """
    return torch.where(x < threshold, 0.0, x), y


def remove(x, y, detector, make_model, share=0.1, seed=0):
    """Drop the ``share`` of the images that are most suspicious, equal ones at random.

    A tenth is one class of ten; how much is poisoned is not known to a curator.
    """
    learned = cache(partial(learn_from, x, y, make_model, seed=seed))
    # In random order first, as a set may be sorted by class.
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed)).to(y.device)
    order = order[detector(x, y, learned)[order].argsort(stable=True)]
    keep = order[: len(y) - round(share * len(y))].sort().values
    return x[keep], y[keep]


FILTERS = {clean.__name__: clean for clean in (lowpass, jpeg, black_point)}
CURATIONS = ("none", *FILTERS, *(f"remove_{name}" for name in DETECTORS))


def mitigation(name, make_model):
    """The named mitigation of ``CURATIONS``, ``clean(x, y) -> x, y``.

    A ``remove_`` trains a network of its own where its detector needs one.
    """
    if name == "none":
        return lambda x, y: (x, y)
    if name in FILTERS:
        return FILTERS[name]
    detector = DETECTORS[name.removeprefix("remove_")]
    return partial(remove, detector=detector, make_model=make_model)
