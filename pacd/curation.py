"""What a data curator can do: score training images by suspicion, and clean a training set before anyone trains on it.

A detector is ``score(x, y, learned) -> tensor of shape (N,)``, higher for more suspicious, and does not know which class is poisoned.
x has shape (N, C, H, W) in [0, 1], y shape (N,); ``learned()`` returns a :class:`Learned` and is called only where a network is needed.
A mitigation is ``clean(x, y) -> x, y``. Neither changes a label.
"""

from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats

from pacd.losses import standard
from pacd.steps import blur
from pacd.train import train


class Learned(NamedTuple):
    """What a network trained on the suspected set says of each image: features (N, d) and early loss (N,)."""

    features: torch.Tensor
    loss: torch.Tensor


def learn(x, y, make_model, loss=partial(standard, sigma=0.0), *, epochs=5, seed=0):
    """Train on the suspected set; the penultimate layer at the end, and each image's cross-entropy after the first epoch.

    Parameters
    ----------
    x, y : tensors of shape (N, C, H, W) and (N,)
    make_model : callable
        ``seed -> torch.nn.Sequential`` whose last layer is linear.
    loss : callable
        A trainer's loss; the default is standard training.
    epochs, seed : int

    Returns
    -------
    Learned
    """
    model = make_model(seed)
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

    k is small against a class, so that neighbours are near, and large enough that the share has more than a few values.
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
    """Squared projection on the top singular vector of a class's centred features (Tran et al., arXiv 1811.00636, algorithm 1).

    They compare within a class; the mean of each class is scaled to 1 here, so that one ranking holds all classes.
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
    """Distance of an image's background, the mean of its darker half of pixels, from the median of all images (pixel units).

    Of all images and not of the class: a class that is poisoned as a whole is its own median. It ranks as a robust z-score would.
    """
    pixels = x.flatten(1).sort(1).values
    level = pixels[:, : pixels.shape[1] // 2].mean(1)
    return (level - level.median()).abs()


DETECTORS = {
    "knn_pixels": knn_pixels,
    "knn_features": knn_features,
    "spectral": spectral,
    "high_loss": high_loss,
    "low_loss": low_loss,
    "background": background,
}


def lowpass(x, y, deviation=1.0):
    """Gaussian blur of ``deviation`` pixels: removes fine texture, of poison and of image alike."""
    return blur(x, deviation), y


def jpeg(x, y, quality=10):
    """JPEG and back, at the low quality of image shortcut squeezing (Liu et al., arXiv 2301.13838)."""
    from torchvision.io import decode_jpeg, encode_jpeg

    images = (x * 255).round().to(torch.uint8).cpu()
    return torch.stack([decode_jpeg(encode_jpeg(image, quality)) for image in images]).to(
        x
    ) / 255, y


def black_point(x, y, threshold=0.2):
    """Pixels below ``threshold`` become 0, the others stay.

    It erases whatever lies in a dark background while it is fainter than the threshold, and nothing that lies on brighter pixels. The
    threshold is between the eps of this study's digits and the grey of their strokes: a curator who knows neither has to guess it.
    """
    return torch.where(x < threshold, 0.0, x), y


def levels(x, y, count=4):
    """Round pixels to ``count`` equally spaced levels from 0 to 1 (reduced colour depth, Xu et al., arXiv 1704.01155)."""
    return (x * (count - 1)).round() / (count - 1), y


def remove(x, y, detector, make_model, share=0.1, seed=0):
    """Drop the ``share`` of the images that are most suspicious, equally suspicious ones at random.

    A tenth is one class of ten; how much is poisoned is not known to a curator.
    """
    learned = cache(partial(learn, x, y, make_model, seed=seed))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed)).to(
        y.device
    )  # a set may be sorted by class
    order = order[detector(x, y, learned)[order].argsort(stable=True)]
    keep = order[: len(y) - round(share * len(y))].sort().values
    return x[keep], y[keep]


FILTERS = {"lowpass": lowpass, "jpeg": jpeg, "black_point": black_point, "levels": levels}
CURATIONS = ("none", *FILTERS, *(f"remove_{name}" for name in DETECTORS))


def curation(name, make_model):
    """The named mitigation, ``clean(x, y) -> x, y``; a ``remove_`` trains its own network where its detector needs one.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in CURATIONS:
        raise ValueError(f"curation must be one of {', '.join(CURATIONS)}, not {name!r}.")
    if name == "none":
        return lambda x, y: (x, y)
    return FILTERS.get(name) or partial(
        remove, detector=DETECTORS[name.removeprefix("remove_")], make_model=make_model
    )


class Area(NamedTuple):
    """Area under the ROC curve with its interval."""

    auc: float
    low: float
    high: float


def auc(score, poisoned, level=0.95):
    """Probability that a poisoned image is more suspicious than another one, ties counting half, with DeLong's interval.

    The interval (DeLong et al. 1988) treats images as independent draws. It is cut at 0 and 1, and has no width where the two
    groups are apart or one of them has a single image.

    Parameters
    ----------
    score : array of shape (N,)
    poisoned : bool array of shape (N,)
    level : float

    Returns
    -------
    Area

    Raises
    ------
    ValueError
        If all or none of the images are poisoned.
    """
    score, poisoned = np.asarray(score), np.asarray(poisoned, bool)
    hits, others = score[poisoned], score[~poisoned]
    if not len(hits) or not len(others):
        raise ValueError(
            "poisoned must hold both True and False: an ROC curve needs both kinds of images."
        )
    ranks = stats.rankdata(score)
    above = (ranks[poisoned] - stats.rankdata(hits)) / len(
        others
    )  # share of the others below each poisoned image
    below = 1 - (ranks[~poisoned] - stats.rankdata(others)) / len(hits)
    variance = sum(part.var(ddof=1) / len(part) for part in (above, below) if len(part) > 1)
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(variance)
    return Area(above.mean(), max(above.mean() - half, 0), min(above.mean() + half, 1))


RATES = (
    0,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    1,
)


def true_positives(score, poisoned, rates=RATES):
    """True positive rate at each false positive rate, array of shape (len(rates),); a tied group is split at random, on average."""
    score, poisoned = np.asarray(score), np.asarray(poisoned, bool)
    values, at = np.unique(-score, return_inverse=True)
    found = [
        np.cumsum(np.bincount(at, weights=kind, minlength=len(values))) / kind.sum()
        for kind in (poisoned, ~poisoned)
    ]
    tpr, fpr = (np.concatenate([[0], rate]) for rate in found)
    start = (
        np.searchsorted(fpr, rates, side="right") - 1
    )  # the last threshold that does not exceed the rate
    end = np.minimum(start + 1, len(fpr) - 1)
    weight = (np.asarray(rates) - fpr[start]) / np.maximum(fpr[end] - fpr[start], 1e-300)
    return tpr[start] + weight * (tpr[end] - tpr[start])
