"""What counts say, without a network: bounds and rows.

Error probabilities are computed exactly, path by path.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, binom, binomtest, norm

from pacd.counts import (
    ABSTAIN,
    STOPPED,
    bound,
    counts_of,
    fewest_draws,
    looks_at,
    lower_bound,
    unsettled,
)
from study.intervals import recertify

# --- Clopper and Pearson ---


def table(*lines, sigma=0.5, alpha=0.001):
    """Rows of ``(label, guess, counts)`` with three classes."""
    labels, guesses, counts = zip(*lines)
    columns = {f"count_{c}": column for c, column in enumerate(zip(*counts))}
    rows = pd.DataFrame({"label": labels, "guess": guesses, "n": [sum(row) for row in counts]})
    return rows.assign(alpha=alpha, sigma=sigma, **columns)


def test_lower_bound_is_the_beta_quantile():
    k = np.array([0, 1, 70, 99, 100])
    expected = [0, *beta.ppf(0.01, [1, 70, 99], [100, 31, 2]), 0.01 ** (1 / 100)]
    np.testing.assert_allclose(lower_bound(k, 100, 0.01), expected, rtol=1e-12)
    assert not np.isnan(lower_bound(np.array([0]), np.array([0]), 0.01)).any()  # a stopped row


def test_rows_are_bounded_by_the_counts_of_their_guess():
    """Right; right though another class won more of n; undecided; wrong; stopped."""
    rows = bound(
        table(
            (1, 1, (5, 95, 0)),
            (1, 1, (55, 45, 0)),
            (1, 1, (45, 55, 0)),
            (2, 0, (100, 0, 0)),
            (2, 0, (0, 0, 0)),
        )
    )
    p = lower_bound(np.array([95, 45, 55, 100]), 100, 0.001)
    np.testing.assert_allclose(rows["p_lower"], [*p, 0])
    assert rows["prediction"].tolist() == [1, ABSTAIN, ABSTAIN, 0, STOPPED]
    np.testing.assert_allclose(rows["radius"], [0.5 * norm.ppf(p[0]), 0, 0, 0, 0])
    assert p[3] > 0.5 > p[2]  # so the wrong point would have a radius, and the third none


def test_a_rate_that_may_be_a_half_certifies_nothing():
    """Of 100 draws 59 come of a fair coin with probability 0.044, and 58 with 0.067."""
    wins = np.arange(101)
    columns = {"label": 0, "guess": 0, "n": 100, "alpha": 0.05, "sigma": 1.0, "count_0": wins}
    rows = bound(pd.DataFrame({**columns, "count_1": 100 - wins}))
    chance = [binomtest(k, 100, 0.5, "greater").pvalue for k in wins]
    certified = np.array(chance) < 0.05
    assert certified.tolist() == (wins >= 59).tolist()
    assert (rows["prediction"] == np.where(certified, 0, ABSTAIN)).all()
    assert ((rows["radius"] > 0) == certified).all() and (rows["radius"][~certified] == 0).all()


def test_rows_are_bounded_at_their_own_alpha_or_another():
    lines = (1, 1, (5, 95, 0)), (1, 1, (5, 95, 0))
    own = bound(table(*lines, alpha=[0.1, 0.001]))
    assert own["alpha"].tolist() == [0.1, 0.001] and own["radius"][0] > own["radius"][1] > 0
    other = bound(own, alpha=0.1)
    assert (other["alpha"] == 0.1).all() and (other["radius"] == own["radius"][0]).all()


def test_more_than_ten_classes_are_counted_in_their_order():
    rows = pd.DataFrame([range(12)], columns=[f"count_{c}" for c in range(12)])
    counts = counts_of(rows.assign(count=99, n=5, count_lost=7))
    assert counts.tolist() == [list(range(12))]


def test_fewer_draws_are_a_part_of_those_made():
    rows = bound(table((1, 1, (3, 20, 1)), (1, 1, (0, 24, 0)), (0, 1, (0, 0, 0))))
    fewer = recertify(rows, n=23, alpha=0.05)
    for seed in range(20):
        lost = counts_of(rows) - counts_of(recertify(rows, n=23, seed=seed))
        assert (lost >= 0).all() and lost.sum(1).tolist() == [1, 1, 0]
    assert fewer["n"].tolist() == [23, 23, 0] and fewer["prediction"].tolist()[2] == STOPPED
    assert fewer["p_lower"][1] == pytest.approx(0.05 ** (1 / 23))
    pd.testing.assert_frame_equal(recertify(rows, n=5), recertify(rows, n=5))
    assert not recertify(rows, n=5, seed=1).equals(recertify(rows, n=5))


# --- the randomised bound ---


def mean_failure(n, p, alpha, least=0.0):
    """Probability that the randomised bound lies above p: exact in k, a fine grid in u."""
    u = (np.arange(2000) + 0.5)[:, None] / 2000
    above = lower_bound(np.arange(n + 1), n, alpha, u.clip(least)) > p
    return (above.mean(0) * binom.pmf(np.arange(n + 1), n, p)).sum()


@pytest.mark.parametrize("n, p", [(10, 0.55), (30, 0.8), (100, 0.97), (100, 0.9999), (3, 0.2)])
def test_randomised_bound_fails_just_as_often_as_allowed(n, p):
    alpha = 0.05
    assert mean_failure(n, p, alpha) == pytest.approx(alpha, rel=0.01)
    assert mean_failure(n, p, alpha, least=0.1) <= alpha * 1.01
    assert mean_failure(n, p, 1.1 * alpha) > 1.05 * alpha  # planted: a level too high


def test_randomised_bound_is_never_below_the_other_and_solves_its_equation():
    k, n, alpha = np.arange(51), 50, 0.001
    for u in (0.1, 0.5, 0.9):
        p = lower_bound(k, n, alpha, u)
        assert (p >= lower_bound(k, n, alpha)).all() and (
            p[1:-1] > lower_bound(k, n, alpha)[1:-1]
        ).all()
        said = binom.sf(k, n, p) + u * binom.pmf(k, n, p)
        np.testing.assert_allclose(said[1:], alpha, rtol=1e-9)
        assert p[-1] == pytest.approx((alpha / u) ** (1 / n))
    mixed = lower_bound(k, n, alpha, np.where(k % 2, 1.0, 0.5))
    assert (mixed[1::2] == lower_bound(k, n, alpha)[1::2]).all()


def test_rows_are_bounded_with_their_own_u_and_looks():
    rows = table(*[(1, 1, (5, 95, 0))] * 3).assign(u=[1.0, 0.2, 1.0], looks=[1, 1, 4])
    p = bound(rows)["p_lower"].tolist()
    expected = [(0.001, 1.0), (0.001, 0.2), (0.00025, 1.0)]
    assert p == [pytest.approx(lower_bound(95, 100, *line).item()) for line in expected]
    with pytest.raises(ValueError, match="looked at once"):  # how many draws hung on the draws
        recertify(rows, n=20)


def test_rows_of_old_beside_new_ones_were_looked_at_once():
    rows = table(*[(1, 1, (5, 95, 0))] * 2)
    mixed = pd.concat([rows, rows.assign(u=1.0, looks=1)], ignore_index=True)
    assert (recertify(mixed, alpha=0.01)["radius"] == bound(rows, 0.01)["radius"][0]).all()
    assert (recertify(mixed, n=50)["n"] == 50).all()


def test_counts_are_of_the_classes_that_they_name():
    names = [f"count_{c}" for c in range(12)]
    rows = pd.DataFrame([range(12)], columns=names)
    assert counts_of(rows[sorted(names)]).tolist() == [[*range(12)]]


# --- several looks ---

LOOKS = [10, 20, 40, 80, 160]


def ever_above(p, alpha, rates, levels):
    """Exact probability that the bound at which one stops lies above the true p.

    Follows the distribution of the wins over the paths on which one goes on.
    """
    alive, failed, before = np.array([1.0]), 0.0, 0
    for look, level in zip(LOOKS, levels):
        alive, before = (
            np.convolve(alive, binom.pmf(range(look - before + 1), look - before, p)),
            look,
        )
        k = np.arange(look + 1)
        stopped = ~unsettled(k, look, level, rates) if look < LOOKS[-1] else np.full(look + 1, True)
        failed += alive[stopped & (lower_bound(k, look, level) > p)].sum()
        alive = np.where(stopped, 0, alive)
    return failed


RATES = np.array([0.5, 0.7, 0.9, 0.97])


def test_stopping_early_fails_at_most_alpha():
    alpha = 0.05
    rates = np.concatenate([RATES - 1e-9, np.linspace(0.4, 0.999, 60)])
    shared = [alpha / len(LOOKS)] * len(LOOKS)
    assert max(ever_above(p, alpha, RATES, shared) for p in rates) <= alpha
    whole = [alpha] * len(LOOKS)  # planted: each look with all of alpha
    assert max(ever_above(p, alpha, RATES, whole) for p in rates) > alpha


def test_looks_double_and_end_at_n():
    assert looks_at(100_000) == [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 100_000]
    assert looks_at(2000) == [1000, 2000] and looks_at(1000) == [1000] and looks_at(7) == [7]


def test_a_point_is_settled_when_the_next_radius_is_out_of_reach():
    """Certified at the last rate; certainly below the first; between two; close to one."""
    n, rates = 1000, np.array([0.5, 0.9])
    k = np.array([1000, 300, 700, 890])
    assert unsettled(k, n, 0.001, rates).tolist() == [False, False, False, True]
    assert lower_bound(890, n, 0.001) < 0.9 < 1 - lower_bound(n - 890, n, 0.01)
    reached = lower_bound(930, n, 0.001)
    assert not unsettled(np.array([930]), n, 0.001, np.array([reached]))[0]  # at, not above


@pytest.mark.parametrize("alpha, fewest", [(0.001, 10), (0.5, 2), (2**-10, 11), (0.9, 1)])
def test_fewest_draws(alpha, fewest):
    assert fewest_draws(alpha) == fewest
    assert lower_bound(fewest, fewest, alpha) > 0.5
    assert fewest == 1 or lower_bound(fewest - 1, fewest - 1, alpha) <= 0.5
