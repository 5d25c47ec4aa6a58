"""Numbers from rows: certified radii and accuracies, paired intervals, imperceptibility."""

from typing import NamedTuple

import numpy as np
from scipy import stats
from skimage.metrics import structural_similarity


def acr(rows):
    """Average certified radius, pixel units; abstaining and wrong points count 0."""
    return rows["radius"].mean()


def certified_accuracy(rows, radii):
    """Share of points whose certified radius is at least each of ``radii`` (pixel units); at 0, of correct points."""
    correct = (rows["prediction"] == rows["label"]).to_numpy()
    return (correct[:, None] & (rows["radius"].to_numpy()[:, None] >= np.asarray(radii))).mean(0)


def abstention(rows):
    """Share of points at which the certifier abstains; a lower bound where wrong guesses were stopped (``stop_wrong``)."""
    return (rows["prediction"] == -1).mean()


# Columns that only a poison has: they do not split the side a poison is compared with.
POISON_ONLY = (
    "attack",
    "attack_options",
    "eps_linf",
    "fraction",
    "crafting_trainer",
    "crafting_architecture",
    "poison_seed",
)


def pairs(rows, by, against="none"):
    """What to compare with what: ``(cell, reference, poisoned)`` for each cell with at least two victim seeds on both sides.

    Parameters
    ----------
    rows : DataFrame
        As :func:`study.results.read_rows` returns.
    by : list of str
        The columns that make a cell; ``cell`` is a dict of their values.
    against : str
        The attack of the reference side: ``none`` for clean data, or a control. Both sides keep their common seeds only.
    """
    reference = rows[rows["attack"] == against]
    shared = [name for name in by if name not in POISON_ONLY]
    for values, poisoned in rows[~rows["attack"].isin(["none", against])].groupby(by, sort=False):
        cell = dict(zip(by, values))
        clean = reference[(reference[shared] == [cell[name] for name in shared]).all(axis=1)]
        seeds = set(clean["seed"]) & set(poisoned["seed"])
        if len(seeds) > 1:
            yield cell, *(table[table["seed"].isin(seeds)] for table in (clean, poisoned))


class Drop(NamedTuple):
    """Relative drop of the ACR with two 95 % intervals, and its standard errors from victim seeds and test points.

    ``low_seeds, high_seeds`` hold for other victims on these test points (how the literature reports ACR); ``low, high``
    for other victims on other test points of the class.
    """

    drop: float
    low_seeds: float
    high_seeds: float
    low: float
    high: float
    se_seeds: float
    se_points: float


def by_seed(rows, value="radius"):
    """A table of ``value``, one row for each victim seed and one column for each test point."""
    return rows.pivot(index="seed", columns="index", values=value)


def paired_drop(clean, poisoned, level=0.95):
    """1 - ACR(poisoned) / ACR(clean), paired by victim seed and by test point.

    Seeds and points are two crossed random effects. The ratio is linearised; the variances of the seed means and of
    the point means of its influence values add up (conservative: the residual is counted in both), and a t
    quantile with Satterthwaite's degrees of freedom honours the small number of seeds.

    Parameters
    ----------
    clean, poisoned : DataFrames of rows
        The same seeds and the same points in both.
    level : float
        Of the interval.

    Returns
    -------
    Drop

    Raises
    ------
    ValueError
        If seeds or points differ, fewer than two seeds are there, or the clean ACR is 0.
    """
    clean, poisoned = by_seed(clean), by_seed(poisoned)
    if not (clean.index.equals(poisoned.index) and clean.columns.equals(poisoned.columns)):
        raise ValueError(
            "clean and poisoned rows must have the same victim seeds and the same test points."
        )
    if len(clean) < 2 or clean.isna().any(axis=None) or poisoned.isna().any(axis=None):
        raise ValueError("an interval needs every point under at least two victim seeds.")
    clean, poisoned = clean.to_numpy(), poisoned.to_numpy()  # (S, P)
    if clean.mean() == 0:
        raise ValueError("the clean ACR is 0, so its relative drop has no meaning.")
    ratio = poisoned.mean() / clean.mean()
    influence = (poisoned - ratio * clean) / clean.mean()
    v_seeds, v_points = (
        influence.mean(axis).var(ddof=1) / influence.shape[1 - axis] for axis in (1, 0)
    )
    seeds, points = influence.shape
    variance = v_seeds + v_points
    freedom = (
        variance**2 / (v_seeds**2 / (seeds - 1) + v_points**2 / (points - 1)) if variance > 0 else 1
    )
    drop, quantile = 1 - ratio, (1 + level) / 2
    half_seeds = stats.t.ppf(quantile, seeds - 1) * np.sqrt(v_seeds)
    half = max(half_seeds, stats.t.ppf(quantile, freedom) * np.sqrt(variance))
    return Drop(
        drop,
        drop - half_seeds,
        drop + half_seeds,
        drop - half,
        drop + half,
        np.sqrt(v_seeds),
        np.sqrt(v_points),
    )


def mean_interval(values, level=0.95):
    """Mean over the first axis, such as the victim seeds, and its t interval; NaN ends for a single value."""
    values = np.asarray(values, float)
    mean, count = values.mean(0), len(values)
    if count < 2:
        return mean, mean * np.nan, mean * np.nan
    half = stats.t.ppf((1 + level) / 2, count - 1) * values.std(0, ddof=1) / np.sqrt(count)
    return mean, mean - half, mean + half


def ssim(clean, poison):
    """Structural similarity (Wang et al. 2004) of each pair of images, arrays (m, C, H, W) in [0, 1]; 1 where equal.

    The window is 7 x 7 (less on smaller images) and stays inside the image. On 28 x 28 pixels its centres fill 22 x 22, where 99 % of
    the ink of MNIST digits lies; the centres of Wang's own 11 x 11 fill 18 x 18, where 91 % of it lies.
    """
    clean, poison = np.asarray(clean, float), np.asarray(poison, float)
    window = min(7, (min(clean.shape[2:]) - 1) // 2 * 2 + 1)
    options = {
        "win_size": window,
        "data_range": 1,
        "channel_axis": 0,
        "use_sample_covariance": False,
    }
    return np.array([structural_similarity(*pair, **options) for pair in zip(clean, poison)])


def distortion(clean, poison):
    """Imperceptibility of poison against original, arrays (m, C, H, W) in [0, 1].

    Largest L-inf and mean L2 (pixel units), mean and worst PSNR (dB), mean and worst SSIM over the images.
    """
    change = (np.asarray(poison, float) - np.asarray(clean, float)).reshape(len(clean), -1)
    psnr = -10 * np.log10((change**2).mean(1).clip(1e-12))
    similarity = ssim(clean, poison)
    return {
        "linf": float(np.abs(change).max()),
        "l2": float(np.sqrt((change**2).sum(1)).mean()),
        "psnr": float(psnr.mean()),
        "psnr_worst": float(psnr.min()),
        "ssim": float(similarity.mean()),
        "ssim_worst": float(similarity.min()),
    }


def wins(rows):
    """How many of a point's n draws its guess won, array of shape (N,)."""
    counts = rows.filter(regex=r"^count_\d+$").to_numpy()
    return counts[range(len(rows)), rows["guess"]]


def probit_p(rows):
    """Phi^-1 of each point's estimated p_A, (k + 1/2) / (n + 1) of its guess; NaN where no draws were made."""
    n = rows["n"].to_numpy()
    return np.where(n > 0, stats.norm.ppf((wins(rows) + 0.5) / (n + 1)), np.nan)


def point_at_cap(rows):
    """Which points are right and won every draw: more draws would raise their radius."""
    return (rows["prediction"] == rows["label"]) & (wins(rows) == rows["n"])


class Bootstrapped(NamedTuple):
    """A statistic with its percentile interval, and its standard errors from resampling seeds and points alone."""

    value: float
    low: float
    high: float
    se_seeds: float
    se_points: float


def paired_bootstrap(
    clean, poisoned, statistic, value="radius", *, level=0.95, resamples=2000, seed=0
):
    """Bootstrap any comparison of clean and poisoned rows, resampling victim seeds and test points, each as one.

    A seed or point that is drawn twice counts twice in both tables, which is the pairing (the pigeonhole bootstrap of
    crossed factors, Owen 2007). With S seeds the seeds' part of the variance comes out small by about (S - 1) / S, so with few
    seeds :func:`paired_drop` is the safer interval for the ACR.

    Parameters
    ----------
    clean, poisoned : DataFrames of rows
        The same seeds and the same points in both.
    statistic : callable
        ``statistic(clean, poisoned) -> float`` on two arrays (seeds, points) of ``value``.
    value : str
        A column, such as radius, or a 0 / 1 column added for the purpose (abstained, certified at some radius).
    level : float
    resamples, seed : int

    Returns
    -------
    Bootstrapped

    Raises
    ------
    ValueError
        If seeds or points differ, or fewer than two of either are there.
    """
    clean, poisoned = by_seed(clean, value), by_seed(poisoned, value)
    if not (clean.index.equals(poisoned.index) and clean.columns.equals(poisoned.columns)):
        raise ValueError(
            "clean and poisoned rows must have the same victim seeds and the same test points."
        )
    clean, poisoned = clean.to_numpy(float), poisoned.to_numpy(float)  # (S, P)
    if min(clean.shape) < 2 or not np.isfinite([clean, poisoned]).all():
        raise ValueError(
            "a bootstrap needs every point under at least two victim seeds, and at least two points."
        )
    generator = np.random.default_rng(seed)

    def resampled(over_seeds, over_points):
        for _ in range(resamples):
            chosen = [
                generator.integers(size, size=size) if over else np.arange(size)
                for size, over in zip(clean.shape, (over_seeds, over_points))
            ]
            yield statistic(clean[np.ix_(*chosen)], poisoned[np.ix_(*chosen)])

    low, high = np.quantile(list(resampled(True, True)), [(1 - level) / 2, (1 + level) / 2])
    errors = (np.std(list(resampled(*over)), ddof=1) for over in ((True, False), (False, True)))
    return Bootstrapped(statistic(clean, poisoned), low, high, *errors)
