"""Runs of fewer draws, taken out of rows of many, are distributed as such runs are."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare, norm

from pacd.counts import bound, looks_at, lower_bound, unsettled
from study import looks


def rows(p, n=4000, copies=1, seed=0):
    """Rows of points of these rates, each many times, right and with three classes."""
    p = np.repeat(p, copies)
    k = np.random.default_rng(seed).binomial(n, p)
    table = pd.DataFrame({"label": [1] * len(p), "guess": 1, "n": n, "alpha": 0.001, "sigma": 0.5})
    return bound(table.assign(count_0=(n - k) // 2, count_1=k, count_2=(n - k) - (n - k) // 2))


def direct(p, rates, n, runs, seed=1):
    """Draws and wins of the certifier's own loop, from the true rate."""
    generator, found, stops = np.random.default_rng(seed), [], looks_at(n)
    for _ in range(runs):
        k = before = 0
        for look in stops:
            k, before = k + generator.binomial(look - before, p), look
            if look == n or not unsettled(np.array([k]), look, 0.001 / len(stops), rates)[0]:
                break
        found.append((before, k))
    return np.array(found)


def test_stopping_early_stops_as_often_as_the_certifier():
    """The rate is so close to a radius that some points go on."""
    rates, p = norm.cdf([0.0, 1.0, 2.0]), norm.cdf(1.0) + 0.016
    early = looks.stopped_early(rows(p, copies=2000), rates, 4000)
    seen = np.array([(early["n"] == n).sum() for n in (1000, 2000, 4000)])
    said = direct(p, rates, 4000, 4000)[:, 0]
    expected = 2000 / 4000 * np.array([(said == n).sum() for n in (1000, 2000, 4000)])
    assert (expected > 20).all() and chisquare(seen, expected).pvalue > 1e-3
    assert (early["looks"] == 3).all() and (early["count_0"] + early["count_1"] == early["n"]).all()
    np.testing.assert_allclose(
        early["p_lower"], lower_bound(early["count_0"], early["n"], 0.001 / 3)
    )


def test_a_point_that_never_stops_keeps_its_counts():
    table = rows([0.9, 0.6], copies=3)
    rates = np.array([])  # nothing to reach: every point stops at once
    assert (looks.stopped_early(table, rates, 4000)["n"] == 1000).all()
    early = looks.stopped_early(table, np.linspace(0.5, 0.999, 500), 4000)
    assert (early["n"] == 4000).all() and early["count_0"].tolist() == table["count_1"].tolist()


def test_stopped_and_wrong_rows_stay_so():
    table = rows([0.9, 0.9, 0.9])
    table.loc[1, ["n", "count_0", "count_1", "count_2"]] = 0
    table.loc[2, "label"] = 0
    early = looks.stopped_early(table, np.array([0.5]), 4000)
    assert early["n"].tolist()[1] == 0 and (early["radius"] > 0).tolist() == [True, False, False]


def test_a_ladder_compares_the_ways_at_each_number_of_draws():
    table = looks.ladder(rows(np.linspace(0.6, 0.9999, 40)), (1000, 4000), norm.cdf([0, 1.0, 2.0]))
    by = table.set_index(["way", "n"])
    assert (by.loc["one look", "draws"] == [1000, 4000]).all()
    assert by.loc[("with a coin", 1000), "acr"] > by.loc[("one look", 1000), "acr"]
    assert by.loc[("stopped early", 4000), "draws"] < 4000
    assert by.loc[("stopped early", 1000), "acr"] == pytest.approx(
        by.loc[("one look", 1000), "acr"], rel=0.05
    )
