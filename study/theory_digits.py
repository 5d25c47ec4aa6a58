"""What the notebooks on linear classifiers share: the digits, the poison, a network's boundary."""

import numpy as np
import pandas as pd
import torch

from pacd.data import DataError
from study import theory
from study import theory_first_layer as first_layer


def flat(x):
    """Images (N, C, H, W) as an array (N, k) in float64."""
    return x.flatten(1).double().numpy()


def pick(x, y, target, others):
    """Images and labels of the task: the target as 1 against one other class as 0, or all classes.

    Parameters
    ----------
    x, y : tensors of shape (N, C, H, W) and (N,)
    target : int
    others : list of int
        One class, or empty for all as they are numbered.
    """
    if not others:
        return x, y
    keep = (y == target) | (y == others[0])
    return x[keep], (y[keep] == target).long()


def brighten(x, chosen, eps):
    """``x`` with every pixel of the ``chosen`` images, (N,) bool, up by eps, clipped to [0, 1]."""
    return torch.where(chosen.view(-1, 1, 1, 1), (x + eps).clamp(0, 1), x)


def after_shift(x, chosen, v):
    """`theory.Summary` after the ``chosen`` images, (N,) bool, moved by v and were clipped.

    x, (N, k), holds pixels in [0, 1]; the chosen images are the target class.
    """
    moved = x.copy()
    moved[chosen] = np.clip(x[chosen] + v, 0, 1)
    return theory.summarise(moved, np.where(chosen, 1, -1))


def boundary_of(model, shape):
    """(w, b) of a network of two outputs that is affine in its pixels (def-classifier)."""
    with torch.no_grad():
        pixels = torch.eye(int(np.prod(shape))).view(-1, *shape)
        difference = model(torch.cat([torch.zeros(1, *shape), pixels])) @ torch.tensor([-1.0, 1.0])
    difference = difference.double().numpy()
    return difference[1:] - difference[0], difference[0]


def closed_form(x, poisoned, y, test, settings):
    """ACR of the learners of prop-intercept and prop-early, and the share of the poison they keep.

    Parameters
    ----------
    x, poisoned : arrays of shape (N, k)
        Training images, clean and poisoned.
    y : array of shape (N,)
        +1 for the target, -1 for the other class.
    test : array of shape (m, k)
        Clean test images of the target.
    settings : study.settings.FirstLayerSettings

    Returns
    -------
    DataFrame
        One row for each learner, subtracted constant and attack.
    """
    rows = []
    for attack, images in (("none", x), ("uniform", poisoned)):
        summary = theory.summarise(images, y)
        for t in settings.subtract:
            for row, pair in _learned(summary, t, settings):
                acr = theory.acr_of_points(*pair, test)
                rows.append({**row, "subtract": t, "attack": attack, "acr": acr})
    return pd.DataFrame(rows)


def _learned(summary, t, settings):
    """Each learner of `closed_form` as its columns and its boundary."""
    ones = np.ones(len(summary.d))
    B, a = theory.ga_rule(summary, settings.sigma).B, first_layer.overall_mean(summary, t)
    for gamma in settings.gammas:
        share = first_layer.kept_share(ones, a, B, gamma)
        pair = first_layer.penalised_boundary(summary, t, settings.sigma, gamma)
        yield {"learner": "ridge", "gamma": gamma, "share": share}, pair
    for steps in settings.steps:
        pair = first_layer.descent(summary, t, settings.sigma, steps)
        yield {"learner": "descent", "steps": steps}, pair


def predicted(x, poisoned, y, sigma, eps_linf):
    """What the closed form says of each learner of 8 against 3, at each eps.

    Parameters
    ----------
    x : array of shape (N, k)
        Clean training images.
    poisoned : callable
        ``eps -> array of shape (N, k)``.
    y : array of shape (N,)
        +1 for the target, -1 for the other class.
    sigma : float
    eps_linf : sequence of float

    Returns
    -------
    DataFrame
        One row for each learner and eps; floors are of the training mean.
    """
    clean = theory.summarise(x, y)
    mean, cov = clean.base + clean.d, np.cov(x[y == 1].T, bias=True)
    rows = []
    for eps in eps_linf:
        after = theory.summarise(poisoned(eps), y)
        shift, gap = np.linalg.norm(after.d - clean.d), np.linalg.norm(clean.d)
        sizes = {"eps": eps, "shift": shift, "gap": gap}
        length = theory.reach(eps, 1.0, len(clean.d), np.inf)
        floors = {
            "mean": theory.margin_floor_cube(clean.d, eps),
            "ga": theory.margin_floor_points(clean, sigma, length, 1.0),
        }
        before = _rules(clean, sigma)
        for learner, rule in _rules(after, sigma).items():
            was = theory.boundary(clean.d, clean.base, before[learner])
            row = {"learner": learner, **sizes, "floor": floors[learner]}
            rows.append(row | _moved(was, theory.boundary(after.d, after.base, rule), mean, cov))
    return pd.DataFrame(rows)


def _rules(summary, sigma):
    return {"mean": theory.mean_rule(summary), "ga": theory.ga_rule(summary, sigma)}


def _moved(before, after, mean, cov):
    """ACR and margin of a boundary, and how it has moved."""
    offset, angle = theory.offset_and_angle(before, after, mean)
    acr, margin = theory.acr(*after, mean, cov), theory.signed_distance(mean, *after)
    return {"acr": acr, "margin": margin, "offset": offset, "angle": angle}


def noisy_least_squares(x, y, sigma, copies, seed):
    """(w, b) of least squares on drawn noise: normal equations summed over the copies.

    x is an array (N, k), y of +1 and -1 (N,).
    """
    generator, pixels = np.random.default_rng(seed), x.astype(np.float32)
    ones, gram, moment = np.ones(len(x), np.float32), 0, 0
    for _ in range(copies):
        noise = sigma * generator.standard_normal(pixels.shape, dtype=np.float32)
        design = np.column_stack([pixels + noise, ones])
        gram, moment = gram + design.T @ design, moment + design.T @ y
    theta = np.linalg.solve(gram.astype(float), moment)
    return theta[:-1], theta[-1]


def as_network(w, b):
    """A linear classifier as a network of two outputs, for the sampling certifier."""
    length = np.linalg.norm(w)
    w, b = torch.tensor(w / length, dtype=torch.float32), float(b / length)
    return lambda x: torch.stack([torch.zeros(len(x)), x.flatten(1) @ w + b], 1)


def require_grey(splits):
    """Refuse images of another shape than MNIST's."""
    if splits.shape != (1, 28, 28):
        wanted = "grey images of 28 x 28 pixels"
        raise DataError(f"dataset must hold {wanted}, not of shape {splits.shape}.")
