"""How well a detector tells poisoned images from others: ROC curves and their area."""

from typing import NamedTuple

import numpy as np
from scipy import stats

RATES = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15)
RATES += (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


class Area(NamedTuple):
    """Area under the ROC curve with its interval."""

    auc: float
    low: float
    high: float


def auc(score, poisoned, level=0.95):
    """Probability that a poisoned image is more suspicious than another one, ties counting half.

    With DeLong's interval (DeLong et al. 1988), which treats images as independent draws. It is cut
    at 0 and 1, and has no width where the two groups are apart or one of them has a single image.

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
    found, others = score[poisoned], score[~poisoned]
    if not len(found) or not len(others):
        both = "both True and False: an ROC curve needs both kinds of images"
        raise ValueError(f"poisoned must hold {both}.")
    ranks = stats.rankdata(score)
    # The share of the others below each poisoned image, and of the poisoned above each other.
    below = (ranks[poisoned] - stats.rankdata(found)) / len(others)
    above = 1 - (ranks[~poisoned] - stats.rankdata(others)) / len(found)
    variance = sum(part.var(ddof=1) / len(part) for part in (below, above) if len(part) > 1)
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(variance)
    area = below.mean()
    return Area(area, max(area - half, 0), min(area + half, 1))


def true_positives(score, poisoned, rates=RATES):
    """True positive rate at each false positive rate, array of shape (len(rates),).

    A tied group is split at random, on average.
    """
    score, poisoned = np.asarray(score), np.asarray(poisoned, bool)
    values, at = np.unique(-score, return_inverse=True)
    tpr, fpr = (_cumulative(at, kind, len(values)) for kind in (poisoned, ~poisoned))
    start = np.searchsorted(fpr, rates, side="right") - 1  # the last that does not exceed the rate
    end = np.minimum(start + 1, len(fpr) - 1)
    weight = (np.asarray(rates) - fpr[start]) / np.maximum(fpr[end] - fpr[start], 1e-300)
    return tpr[start] + weight * (tpr[end] - tpr[start])


def _cumulative(at, kind, size):
    """Share of the images of a kind at or above each threshold, from 0 on."""
    found = np.cumsum(np.bincount(at, weights=kind, minlength=size))
    return np.concatenate([[0], found / kind.sum()])
