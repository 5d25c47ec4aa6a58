"""Numbers from rows: radii and certified accuracies, and paired comparisons with intervals."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from pacd.counts import ABSTAIN, bound, counts_of, wins


def acr(rows):
    """Average certified radius, pixel units; abstaining and wrong points count 0."""
    return rows["radius"].mean()


def acr_sentence(rows):
    """The ACR in words, with its t interval over victims where there are two or more."""
    by_victim = [acr(table) for _, table in rows.groupby("seed")]
    mean, low, high = mean_interval(by_victim)
    several = f"95 % interval over {len(by_victim)} victims {low:.3f} to {high:.3f}"
    # Points that stopped early would have larger radii after all draws.
    least = "" if (_looks(rows) == 1).all() else "at least "
    return f"ACR {least}{mean:.3f}, {several if len(by_victim) > 1 else 'one victim: no interval'}"


def _looks(rows):
    """How often the draws of each row were looked at; rows of old do not say so: once."""
    return rows["looks"].fillna(1) if "looks" in rows else pd.Series(1, rows.index)


def certified_accuracy(rows, radii):
    """Share of points certified at each of ``radii`` (pixel units); at 0, of correct points."""
    correct = (rows["prediction"] == rows["label"]).to_numpy()[:, None]
    return (correct & (rows["radius"].to_numpy()[:, None] >= np.asarray(radii))).mean(0)


def abstention(rows):
    """Share of points at which the certifier abstains.

    A lower bound where wrong guesses were stopped (``stop_wrong``).
    """
    return (rows["prediction"] == ABSTAIN).mean()


def recertify(rows, *, alpha=None, n=None, seed=0):
    """Certify again from rows alone, at another alpha, from fewer draws, or both.

    Fewer draws are a random subset of those counted (multivariate hypergeometric). Its counts are
    distributed exactly as those of a run of n draws, so the certificates keep their guarantee, but
    they are not the counts that a run of n draws with this noise seed would have: the order of the
    draws is not in the rows, and which ones are kept is drawn for each row apart. Alpha has to be
    chosen without looking at the radii.

    Parameters
    ----------
    rows : DataFrame
        Stopped rows stay stopped.
    alpha : float, optional
    n : int, optional
        At most the draws of every row that was not stopped.
    seed : int
        Of the subset.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ValueError
        If alpha or n is impossible, a row holds fewer than n draws, or n is given for rows whose
        draws were stopped early.
    """
    if alpha is not None and not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, both excluded, not {alpha}.")
    if n is None:
        return bound(rows, alpha)
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}.")
    if (_looks(rows) != 1).any():
        reason = "the others' number of draws depended on them"
        raise ValueError(f"n may be given only for rows that were looked at once: {reason}.")
    drawn = (rows["n"] > 0).to_numpy()
    if (rows["n"][drawn] < n).any():
        fewest = rows["n"][drawn].min()
        raise ValueError(f"n must be at most {fewest}, the draws in the rows, not {n}.")
    counts = counts_of(rows).copy()
    generator = np.random.default_rng(seed)
    for row in np.flatnonzero(drawn):
        counts[row] = generator.multivariate_hypergeometric(counts[row], n)
    columns = {f"count_{c}": column for c, column in enumerate(counts.T)}
    return bound(rows.assign(n=counts.sum(1), **columns), alpha)


def probit_p(rows):
    """Phi^-1 of each point's estimated p_A, (k + 1/2) / (n + 1) of its guess; NaN without draws."""
    n = rows["n"].to_numpy()
    return np.where(n > 0, stats.norm.ppf((wins(rows) + 0.5) / (n + 1)), np.nan)


def point_at_cap(rows):
    """Which points are right and won every draw: more draws would raise their radius."""
    return (rows["prediction"] == rows["label"]) & (wins(rows) == rows["n"])


# Columns that only a poison has: they do not split the side a poison is compared with.
POISON_ONLY = ("attack", "attack_options", "eps_linf", "fraction")
POISON_ONLY += ("crafting_trainer", "crafting_architecture", "poison_seed")


def pairs(rows, by, against="none"):
    """What to compare with what: ``(cell, reference, poisoned)`` for each cell.

    Only cells with at least two victim seeds on both sides.

    Parameters
    ----------
    rows : DataFrame
        As :func:`study.rows.read_rows` returns.
    by : list of str
        The columns that make a cell; ``cell`` is a dict of their values.
    against : str
        The attack of the reference side: ``none`` for clean data, or a control. Both sides keep
        their common seeds only.
    """
    reference = rows[rows["attack"] == against]
    shared = [name for name in by if name not in POISON_ONLY]
    others = rows[~rows["attack"].isin(["none", against])]
    for values, poisoned in others.groupby(by, sort=False, dropna=False):
        cell, wanted = dict(zip(by, values)), poisoned[shared].iloc[0]
        # None is a value too, such as the train_size of whole sets.
        of_cell = (reference[shared].eq(wanted) | reference[shared].isna() & wanted.isna()).all(1)
        clean = reference[of_cell]
        seeds = set(clean["seed"]) & set(poisoned["seed"])
        if len(seeds) > 1:
            yield cell, *(table[table["seed"].isin(seeds)] for table in (clean, poisoned))


def accuracy_by_seed(rows):
    """Accuracy of the target class without noise of each victim, a Series of shares by seed.

    Raises
    ------
    ValueError
        If the rows are of several victims of one seed.
    """
    victims = rows.groupby("seed")["accuracy_target"]
    if (victims.nunique() > 1).any():
        raise ValueError("a cell must hold one victim of a seed, and these rows are of several.")
    return victims.first()


def by_seed(rows, value="radius"):
    """A table of ``value``, one row for each victim seed and one column for each test point.

    Raises
    ------
    ValueError
        If a test point occurs twice under one seed.
    """
    if rows.duplicated(["seed", "index"]).any():
        raise ValueError("rows must hold a test point once under each seed.")
    return rows.pivot(index="seed", columns="index", values=value)


# How both sides of a comparison were trained and certified, and where.
SAME = ("dataset", "split_seed", "train_size", "trainer", "trainer_options", "architecture")
SAME += ("normalisation", "epochs", "batch", "lr", "schedule", "weight_decay", "optimizer")
SAME += ("training_precision", "augmentation", "target_class", "sigma", "n0", "alpha", "noise_seed")
SAME += ("precision", "n_asked", "radii")
# Hashes that rows of old do not have: of the data, and of the files of brought functions.
HASHES = ("data_sha256", "test_sha256", "brought")


def _check_alike(*sides):
    """ValueError where a difference between the sides would not be the poison's doing."""

    def check(name, values):
        here, there = ({"none" if pd.isna(v) else v for v in side} for side in values)
        if here != there:
            said = " and ".join(", ".join(sorted(map(str, side))) for side in (here, there))
            raise ValueError(f"clean and poisoned rows must have the same {name}, not {said}.")

    def both_have(name):
        return all(name in side for side in sides)

    for name in SAME:
        if both_have(name):
            check(name, [side[name] for side in sides])
            _check_seeds(name, *(side.groupby("seed")[name].first() for side in sides))
    for name in HASHES:
        if len({known for side in sides if name in side for known in side[name].dropna()}) > 1:
            raise ValueError(f"clean and poisoned rows must have the same {name}.")
    check("looks", [_looks(side) for side in sides])
    check("bound", [[_bound(side)] for side in sides])
    one_look = all((_looks(side) == 1).all() for side in sides)
    if both_have("n") and one_look and all(side["n"].any() for side in sides):
        check("n", [[side["n"].max()] for side in sides])
    if both_have("label"):
        labels = [side.drop_duplicates("index").set_index("index")["label"] for side in sides]
        if labels[0].ne(labels[1]).reindex(labels[0].index.intersection(labels[1].index)).any():
            raise ValueError("clean and poisoned rows must have the same labels of test points.")


def _check_seeds(name, here, there):
    """ValueError where the two victims of a seed are not alike."""
    here, there = here.fillna("none"), there.fillna("none")
    both = here.index.intersection(there.index)
    if (here[both] != there[both]).any():
        raise ValueError(f"clean and poisoned rows must have the same {name} under each seed.")


def _bound(rows):
    return "randomised" if "u" in rows and (rows["u"] < 1).any() else "exact"


def _check_one(side, name):
    """ValueError where the victims of one side did not all train on the same images."""
    if "train_sha256" in side and side["train_sha256"].dropna().nunique() > 1:
        raise ValueError(f"{name} rows must be of victims of the same training images.")


def check_paired(clean, poisoned, value="radius"):
    """The two tables as arrays (seeds, points); ValueError unless they can be compared."""
    _check_one(clean, "clean")
    _check_one(poisoned, "poisoned")
    _check_alike(clean, poisoned)
    clean, poisoned = by_seed(clean, value), by_seed(poisoned, value)
    if not (clean.index.equals(poisoned.index) and clean.columns.equals(poisoned.columns)):
        same = "the same victim seeds and the same test points"
        raise ValueError(f"clean and poisoned rows must have {same}.")
    return clean.to_numpy(float), poisoned.to_numpy(float)


class Drop(NamedTuple):
    """Relative drop of the ACR with two 95 % intervals, and its standard errors.

    ``low_seeds, high_seeds`` hold for other victims on these test points (how the literature
    reports ACR); ``low, high`` for other victims on other test points of the class. The errors are
    those from victim seeds and from test points.
    """

    drop: float
    low_seeds: float
    high_seeds: float
    low: float
    high: float
    se_seeds: float
    se_points: float


UNDEFINED = Drop(*[np.nan] * len(Drop._fields))  # of a clean ACR of 0


def paired_drop(clean, poisoned, level=0.95):
    """1 - ACR(poisoned) / ACR(clean), paired by victim seed and by test point.

    Seeds and points are two crossed random effects. The ratio is linearised; the variances of the
    seed means and of the point means of its influence values add up (conservative: the residual is
    counted in both), and a t quantile with Satterthwaite's degrees of freedom honours the small
    number of seeds.

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
        If seeds, points or how they were certified differ, fewer than two seeds or two points are
        there, or the clean ACR is 0.
    """
    clean, poisoned = check_paired(clean, poisoned)  # (S, P)
    if min(clean.shape) < 2 or not np.isfinite([clean, poisoned]).all():
        needed = "at least two victim seeds, and at least two points"
        raise ValueError(f"an interval needs every point under {needed}.")
    if clean.mean() == 0:
        raise ValueError("the clean ACR is 0, so its relative drop has no meaning.")
    ratio = poisoned.mean() / clean.mean()
    influence = (poisoned - ratio * clean) / clean.mean()
    seeds, points = influence.shape
    v_seeds = influence.mean(1).var(ddof=1) / seeds
    v_points = influence.mean(0).var(ddof=1) / points
    variance = v_seeds + v_points
    freedom = 1
    if variance > 0:
        freedom = variance**2 / (v_seeds**2 / (seeds - 1) + v_points**2 / (points - 1))
    drop, quantile = 1 - ratio, (1 + level) / 2
    inner = stats.t.ppf(quantile, seeds - 1) * np.sqrt(v_seeds)
    outer = max(inner, stats.t.ppf(quantile, freedom) * np.sqrt(variance))
    ends = drop - inner, drop + inner, drop - outer, drop + outer
    return Drop(drop, *ends, np.sqrt(v_seeds), np.sqrt(v_points))


def mean_interval(values, level=0.95):
    """Mean over the first axis, such as the victim seeds, and its t interval.

    NaN ends for a single value.
    """
    values = np.asarray(values, float)
    mean, count = values.mean(0), len(values)
    if count < 2:
        return mean, mean * np.nan, mean * np.nan
    error = values.std(0, ddof=1) / np.sqrt(count)
    half = stats.t.ppf((1 + level) / 2, count - 1) * error
    return mean, mean - half, mean + half


class Bootstrapped(NamedTuple):
    """A statistic with its percentile interval, and its standard errors.

    The errors are those from resampling seeds alone and points alone.
    """

    value: float
    low: float
    high: float
    se_seeds: float
    se_points: float


def paired_bootstrap(
    clean, poisoned, statistic, value="radius", *, level=0.95, resamples=2000, seed=0
):
    """Bootstrap any comparison of clean and poisoned rows.

    Victim seeds and test points are resampled, each as one. A seed or point that is drawn twice
    counts twice in both tables, which is the pairing (the pigeonhole bootstrap of crossed factors,
    Owen 2007). With S seeds the seeds' part of the variance comes out small by about (S - 1) / S,
    so with few seeds :func:`paired_drop` is the safer interval for the ACR.

    Parameters
    ----------
    clean, poisoned : DataFrames of rows
        The same seeds and the same points in both.
    statistic : callable
        ``statistic(clean, poisoned) -> float`` on two arrays (seeds, points) of ``value``.
    value : str
        A column, such as radius, or a 0 / 1 column added for the purpose (abstained, certified at
        some radius).
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
    clean, poisoned = check_paired(clean, poisoned, value)  # (S, P)
    if min(clean.shape) < 2 or not np.isfinite([clean, poisoned]).all():
        needed = "every point under at least two victim seeds, and at least two points"
        raise ValueError(f"a bootstrap needs {needed}.")
    generator = np.random.default_rng(seed)

    def resampled(over_seeds, over_points):
        for _ in range(resamples):
            seeds, points = (
                generator.integers(size, size=size) if over else np.arange(size)
                for size, over in zip(clean.shape, (over_seeds, over_points))
            )
            chosen = np.ix_(seeds, points)
            yield statistic(clean[chosen], poisoned[chosen])

    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(list(resampled(True, True)), ends)
    errors = (np.std(list(resampled(*over)), ddof=1) for over in ((True, False), (False, True)))
    return Bootstrapped(statistic(clean, poisoned), low, high, *errors)
