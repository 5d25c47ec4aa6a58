"""What counts say, without a network: bounds, rows, and betting confidence intervals.

Error probabilities are computed exactly, path by path.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, norm

from pacd.counts import ABSTAIN, STOPPED, bound, counts_of, lower_bound
from study.intervals import recertify
from study.sequential import confidence_interval, decisions, log_wealth

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
    lost = counts_of(rows) - counts_of(fewer)
    assert (lost >= 0).all() and lost.sum(1).tolist() == [1, 1, 0]
    assert fewer["n"].tolist() == [23, 23, 0] and fewer["prediction"].tolist()[2] == STOPPED
    assert fewer["p_lower"][1] == pytest.approx(0.05 ** (1 / 23))
    pd.testing.assert_frame_equal(recertify(rows, n=5), recertify(rows, n=5))
    assert not recertify(rows, n=5, seed=1).equals(recertify(rows, n=5))


# --- betting ---


def ever_refuted(p, steps, refutes):
    """Exact probability that the truth p is refuted at some n up to ``steps``.

    One looks after every draw: this follows the distribution of the wins over the paths on which
    ``refutes(k, n, p)`` has never been true.
    """
    alive = np.array([1.0])
    for n in range(1, steps + 1):
        alive = np.append(alive * (1 - p), 0) + np.append(0, alive * p)
        alive[refutes(np.arange(n + 1), n, p)] = 0
    return 1 - alive.sum()


def betting(threshold):
    return lambda k, n, p: log_wealth(k, n, p) >= np.log(threshold)


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("p", [1e-4, 0.02, 0.5, 0.69, 0.97, 0.9999])
def test_truth_is_refuted_at_most_alpha_of_the_time(p, alpha):
    assert ever_refuted(p, 1500, betting(1 / alpha)) <= alpha


def test_planted_errors_are_seen():
    """A threshold of 1 / (2 alpha) errs too often, and so do many looks at a bound for one."""
    alpha = 0.05
    assert max(ever_refuted(p, 1500, betting(1 / (2 * alpha))) for p in (0.5, 0.69)) > alpha
    assert ever_refuted(0.69, 300, lambda k, n, p: lower_bound(k, n, alpha) > p) > 2 * alpha


def test_wealth_is_a_martingale():
    """The mean wealth after the next draw is the wealth now, and it starts at 1."""
    p, k, n = 0.3, np.arange(8), 7
    after = p * np.exp(log_wealth(k + 1, n + 1, p)) + (1 - p) * np.exp(log_wealth(k, n + 1, p))
    assert np.allclose(after, np.exp(log_wealth(k, n, p))) and log_wealth(0, 0, p) == pytest.approx(
        0
    )


def test_wealth_of_two_draws():
    """Krichevsky and Trofimov give two wins the probability 3/8, and a win and a loss 1/8."""
    wealth = np.exp(log_wealth(np.array([2, 1, 0]), 2, 0.2))
    np.testing.assert_allclose(wealth, [3 / 8 / 0.04, 1 / 8 / 0.16, 3 / 8 / 0.64])


def test_interval_is_where_the_wealth_is_small():
    k, n = np.array([0, 3, 50, 99, 100, 0]), np.array([100] * 5 + [0])
    low, high = confidence_interval(k, n, 0.001)
    assert low[0] == 0 and high[4] == 1 and (low[5], high[5]) == (0, 1)
    assert np.allclose(log_wealth(k, n, low)[1:5], np.log(1000)) and np.allclose(
        log_wealth(k, n, high)[:4], np.log(1000)
    )
    assert (log_wealth(k, n, (low + high) / 2) < np.log(1000)).all()


def test_interval_ends_are_refuted_and_no_further_out_than_rounding():
    """A returned end is refuted, or 0 or 1: never inside the exact interval."""
    n = 1000
    k = np.arange(0, n + 1, 50)
    ends = np.array(confidence_interval(k, n, 0.01))
    wealth = log_wealth(k, n, ends)
    assert (wealth[0][1:] >= np.log(100)).all() and (wealth[1][:-1] >= np.log(100)).all()
    assert (log_wealth(k[1:-1], n, ends[:, 1:-1] + [[1e-9], [-1e-9]]) < np.log(100)).all()


def test_shares_of_decisions():
    """At rate 1/2 and at Phi(1): certified, refuted and undecided points, and a wrong guess."""
    rows = pd.DataFrame(
        {
            "label": 1,
            "guess": [1, 1, 1, 0],
            "p_lower": [0.9, 0.5, 0.4, 0.9],
            "p_upper": [1.0, norm.cdf(1), 0.6, 1.0],
            "sigma": 0.5,
        }
    )
    shares = decisions(rows, [0.0, 0.5])
    assert shares["radius"].tolist() == [0, 0.5]
    assert shares["certified"].tolist() == [0.5, 0.25]
    assert shares["refuted"].tolist() == [0.25, 0.75]
    assert shares["undecided"].tolist() == [0.25, 0]
