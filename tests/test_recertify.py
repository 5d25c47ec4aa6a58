"""The page that certifies again: its JavaScript, in Chromium, against the Python it follows."""

import os
from pathlib import Path

import browser
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pacd.counts import bound, counts_of, lower_bound
from study import recertify
from study.intervals import (
    abstention,
    acr,
    certified_accuracy,
    mean_interval,
    paired_drop,
    probit_p,
)
from study.intervals import recertify as certify_again

BOOK = Path(__file__).parents[1] / "book"
BUILT = Path(os.environ.get("PACD_BOOK") or BOOK / "_build" / "html") / "recertify.html"
SCRIPT = (BOOK / "recertify.js").read_text(encoding="utf-8")

in_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


def made_rows(
    trainer, sigma, attack, n=1000, strength=1.5, stop_wrong=False, seeds=(0, 1, 2), points=20
):
    """Rows with counts of classes 0 to 2 and label 1.

    Every tenth guess is wrong; the first point wins every draw.
    """
    rng = np.random.default_rng(len(attack) + n)
    size = len(seeds) * points
    p = stats.norm.cdf(rng.normal(strength, 1, size)) * (np.arange(size) % points > 0) + (
        np.arange(size) % points == 0
    )
    guess = np.where(np.arange(size) % 10 == 9, 2, 1)
    k = rng.binomial(n, p) * (~(stop_wrong & (guess == 2)))
    rest = np.where(stop_wrong & (guess == 2), 0, n - k)
    seed, index = np.divmod(np.arange(size), points)
    rows = pd.DataFrame(
        {
            "seed": np.array(seeds)[seed],
            "index": 100 + index,
            "label": 1,
            "guess": guess,
            "n": k + rest,
        }
    )
    rows = rows.assign(
        alpha=0.001,
        sigma=sigma,
        noise_seed=7,
        count_0=rest,
        count_1=np.where(guess == 1, k, 0),
        count_2=np.where(guess == 2, k, 0),
    )
    return bound(rows).assign(trainer=trainer, attack=attack)


@pytest.fixture(scope="module")
def rows():
    cells = [
        ("gaussian", 0.5, a, 1000, s)
        for a, s in (("none", 1.5), ("first_order", 0.3), ("uniform", 0.8))
    ]
    cells += [
        ("macer", 0.25, a, 100_000, s, True) for a, s in (("none", 2.0), ("first_order", 0.5))
    ]
    made = pd.concat([made_rows(*cell) for cell in cells], ignore_index=True)
    return made[
        (made["attack"] != "uniform") | (made["seed"] > 0)
    ]  # a control of which one victim is still missing


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as driver:
        yield driver


HEAD = """<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><title>x</title></head>"""


@pytest.fixture
def page(rows, tmp_path):
    """The figure alone, outside the book."""
    body = f"<body><main>{recertify.html(rows)}</main></body>"
    text = f'<!doctype html><html lang="en">{HEAD}{body}</html>'
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    with browser.served(tmp_path) as base:
        yield base


def run(driver, body, *arguments):
    return driver.execute_script(f"{SCRIPT}\n{body}", *arguments)


def cell_of(rows, key):
    return rows[(rows[recertify.KEY] == list(key)).all(axis=1)]


# ---- the data ----


def test_codes_hold_the_counts(rows):
    for cell in recertify.compact(rows)["cells"]:
        table = cell_of(rows, [cell[name] for name in recertify.KEY])
        expected = []
        for _, row in table.iterrows():
            lost = cell["n"] - row[f"count_{row['guess']}"]
            expected.append(
                None
                if row["prediction"] == -2
                else lost
                if row["guess"] == row["label"]
                else -1 - lost
            )
        assert sum(cell["codes"], []) == expected
        assert (cell["seeds"], cell["index"]) == (
            [0, 1, 2][cell["attack"] == "uniform" :],
            list(range(100, 120)),
        )
        assert (cell["alpha"], cell["noise_seed"]) == (0.001, 7)


def test_a_cell_may_be_stopped_everywhere(rows):
    stopped = cell_of(rows, ("macer", 0.25, "first_order")).assign(
        n=0, count_0=0, count_1=0, count_2=0, prediction=-2, radius=0.0
    )
    (_, cell) = recertify.compact(pd.concat([cell_of(rows, ("macer", 0.25, "none")), stopped]))[
        "cells"
    ]
    assert cell["n"] == 100_000 and set(sum(cell["codes"], [])) == {None}


@pytest.mark.parametrize("name, value", [("looks", 4), ("u", 0.5)])
def test_rows_under_another_bound_are_refused(rows, name, value):
    clean = rows[rows["attack"] == "none"]
    recertify.compact(clean.assign(**{name: 1}))
    with pytest.raises(ValueError, match=f"{name} must be 1 in the rows of"):
        recertify.compact(clean.assign(**{name: value}))


def test_rows_of_several_experiments_are_refused(rows):
    clean = rows[rows["attack"] == "none"]
    with pytest.raises(ValueError, match="mix several experiments"):
        recertify.compact(pd.concat([clean, clean]))
    with pytest.raises(
        ValueError,
        match=r"alpha must be one number in the rows of \('gaussian', 0.5, 'none'\), "
        r"not 0.01, 0.001",
    ):
        recertify.compact(clean.assign(alpha=[0.01, *clean["alpha"][1:]]))
    with pytest.raises(ValueError, match="same test points"):
        recertify.compact(clean[1:])


def test_a_large_study_fits_into_the_page():
    """100 cells of 5 victims and 200 points with the longest counts stay well below 1.5 MB."""
    one = made_rows("gaussian", 0.5, "none", 100_000, strength=-1, seeds=range(5), points=200)
    cells = [one.assign(sigma=0.5 + i / 100) for i in range(100)]
    assert len(recertify.html(pd.concat(cells))) < 1e6


# ---- the numbers ----

SIZES = (1, 2, 10, 100, 1000, 10_000, 100_000)
ALPHAS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)


@in_browser
def test_bound_and_radius_agree_with_scipy(chromium):
    shares = (0, 0.001, 0.1, 1 / 3, 0.5, 0.501, 0.6, 0.9, 0.99, 0.999, 1)
    grid = [
        (k, n, alpha)
        for n in SIZES
        for k in sorted({*(int(n * s) for s in shares), 1, n - 1})
        for alpha in ALPHAS
    ]
    k, n, alpha = np.array(grid).T
    exact = lower_bound(k, n, alpha)
    found = np.array(
        run(
            chromium,
            "return arguments[0].map(([k, n, alpha]) => recertify.lowerBound(k, n, alpha))",
            grid,
        )
    )
    assert np.abs(found - exact).max() < 1e-12  # of a probability near 1, so that radii agree too
    sure = exact > 0.5
    estimates = (
        np.arange(0, 100_001, 997) + 0.5
    ) / 100_001  # of p_A, as far out as 100,000 draws lead
    z = run(
        chromium,
        "return arguments[0].map(recertify.normalQuantile)",
        [*found[sure], *estimates, 1 - estimates[0]],
    )
    assert (
        np.abs(np.array(z) - stats.norm.ppf([*exact[sure], *estimates, 1 - estimates[0]])).max()
        < 1e-9
    )


@in_browser
def test_a_subset_is_the_hypergeometric_quantile(chromium):
    """x is the quantile at u if P(X < x) < u <= P(X <= x); 1e-9 is room for rounding."""
    grid = [
        (total, round(total * wins), max(1, round(total * n)), u)
        for total in (10, 1000, 100_000)
        for wins in (0, 0.001, 0.3, 0.97, 1)
        for n in (0.001, 0.02, 0.5, 0.9, 1)
        for u in (1e-9, 1e-4, 0.2, 0.5, 0.9, 0.9999, 1 - 1e-9)
    ]
    total, wins, n, u = np.array(grid).T
    x = np.array(
        run(chromium, "return arguments[0].map((draw) => recertify.hypergeometric(...draw))", grid)
    )
    law = stats.hypergeom(total, wins, n)
    assert (law.cdf(x - 1) <= u + 1e-9).all() and (law.cdf(x) >= u - 1e-9).all()
    assert (x[n == total] == wins[n == total]).all()


def accepted(draws, law):
    """Are draws those of a law? The chance of any error here is 1e-6.

    Each count of draws at or below a value is binomial.
    """
    values = np.unique(draws)
    counts = (draws[:, None] <= values).sum(0)
    level = 1e-6 / len(values)
    below, above = (
        stats.binom.cdf(counts, len(draws), law.cdf(values)),
        stats.binom.sf(counts - 1, len(draws), law.cdf(values)),
    )
    return bool((np.minimum(below, above) > level / 2).all())


@in_browser
def test_seeded_subsets_have_the_right_distribution(chromium):
    draw = """
        const u = recertify.generator(arguments[0]);
        const one = () => recertify.hypergeometric(1000, 900, 400, u());
        return Array.from({length: 20000}, one);
    """
    law = stats.hypergeom(1000, 900, 400)
    for seed in (0, 1):
        draws = np.array(run(chromium, draw, seed))
        assert accepted(draws, law)
        assert accepted(draws[1:][draws[:-1] > law.median()], law)  # whatever came before
    assert run(chromium, draw, 0) == run(chromium, draw, 0)
    planted = np.random.default_rng(0).binomial(400, 0.9, 20_000)  # with replacement: too wide
    assert not accepted(planted, law)


def certified(driver, rows, key, n, alpha):
    """Rows of a cell, and what the script makes of them; k, radius and probit as the rows go."""
    cell = next(
        c
        for c in recertify.compact(rows)["cells"]
        if [c[name] for name in recertify.KEY] == list(key)
    )
    # JSON has no infinity, so a probit of a wrong guess arrives as None.
    result = run(driver, "return recertify.certify(...arguments)", cell, n, alpha)
    return cell_of(rows, key), result | {
        name: sum(result[name], []) for name in ("k", "radius", "probit")
    }


CELLS = [(("gaussian", 0.5, "first_order"), 1000), (("macer", 0.25, "none"), 100_000)]


@in_browser
@pytest.mark.parametrize("key, n", CELLS)
@pytest.mark.parametrize("alpha", [1e-6, 0.001, 0.5])
def test_all_draws_give_the_radii_of_the_certifier(chromium, rows, key, n, alpha):
    table, found = certified(chromium, rows, key, n, alpha)
    again = certify_again(table, alpha=alpha)
    assert found["radius"] == pytest.approx(again["radius"].tolist(), abs=1e-6)
    if alpha == 0.001:
        assert found["radius"] == pytest.approx(table["radius"].tolist(), abs=1e-6)
    assert found["abstention"] == pytest.approx(abstention(again))
    assert found["stopped"] == pytest.approx((table["prediction"] == -2).mean())
    right = (table["guess"] == table["label"]).to_numpy()
    assert np.array(found["probit"], float)[right] == pytest.approx(
        probit_p(table)[right], abs=1e-8
    )


@in_browser
@pytest.mark.parametrize("key, n", CELLS)
def test_fewer_draws_are_certified_from_the_subset(chromium, rows, key, n):
    table, found = certified(chromium, rows, key, n // 5, 0.01)
    drawn = (table["n"] > 0).to_numpy()
    kept = np.array(found["k"], float)[drawn].astype(int)
    k = counts_of(table)[range(len(table)), table["guess"]][drawn]
    assert (kept <= k).all() and (k - kept <= n - n // 5).all()
    p = lower_bound(kept, n // 5, 0.01)
    right = (table["guess"] == table["label"]).to_numpy()[drawn]
    expected = np.where(right & (p > 0.5), table["sigma"][drawn] * stats.norm.ppf(p), 0)
    assert np.array(found["radius"])[drawn] == pytest.approx(expected, abs=1e-6)
    assert set(np.array(found["radius"])[~drawn]) <= {0}
    # Points are drawn apart, with the hypergeometric variance: mean and squares of their errors.
    variance = n // 5 * (k / n) * (1 - k / n) * (n - n // 5) / (n - 1)
    z = ((kept - k / 5) / np.sqrt(variance, where=variance > 0, out=np.ones(len(k))))[
        variance > 10
    ]  # about normal
    assert len(z) > 20 and abs(z.sum()) < 4.9 * np.sqrt(len(z))
    assert 5e-7 < stats.chi2.cdf((z**2).sum(), len(z)) < 1 - 5e-7


@in_browser
def test_summaries_are_those_of_the_metrics(chromium, rows):
    clean, poisoned = (
        cell_of(rows, ("gaussian", 0.5, attack)) for attack in ("none", "first_order")
    )
    radii = [table["radius"].to_numpy().reshape(3, -1).tolist() for table in (clean, poisoned)]
    found = run(chromium, "return recertify.pairedDrop(...arguments)", *radii)
    drop = paired_drop(clean, poisoned)
    expected = drop.drop, drop.drop - drop.low_seeds, drop.drop - drop.low
    assert [found["drop"], found["halfSeeds"], found["half"]] == pytest.approx(expected, abs=1e-9)
    for at in (0, 0.4):
        values = [certified_accuracy(table, [at])[0] for _, table in clean.groupby("seed")]
        mean, low, _ = mean_interval(values)
        found = run(chromium, "return recertify.accuracy(...arguments)", radii[0], at)
        assert [found["mean"], found["half"]] == pytest.approx([mean, mean - low], abs=1e-9)


# ---- the page ----


def shown(driver):
    """Texts and exact values that the page shows."""
    return driver.execute_script("""
        const get = (name) => document.getElementById(`recertify-${name}`);
        const text = (name) => get(name).textContent;
        const number = (name) => Number(text(`${name}-value`).replace(",", ""));
        const rows = [...get("numbers").rows], drop = get("drop").querySelector("data");
        const values = (row) => [...row.querySelectorAll("data")].map((d) => Number(d.value));
        const texts = (row) => [...row.cells].map((cell) => cell.textContent.trim());
        return {alpha: number("alpha"), n: number("n"), radius: number("radius"),
                numbers: rows.map(values), texts: rows.map(texts),
                drop: drop && Number(drop.value), sentence: text("drop"),
                curve: get("curve").innerHTML, share: get("share").innerHTML,
                label: get("curve").getAttribute("aria-label")};
    """)


def press(driver, name, keys):
    from selenium.webdriver.common.by import By

    driver.find_element(By.ID, f"recertify-{name}").send_keys(keys)
    return shown(driver)


@in_browser
@pytest.mark.parametrize("width", [1200, 390])
def test_keyboard_changes_what_is_certified(chromium, page, rows, width):
    from selenium.webdriver.common.keys import Keys

    clean, poisoned = (
        cell_of(rows, ("gaussian", 0.5, attack)) for attack in ("none", "first_order")
    )
    browser.complaints(chromium, page)  # forget what other tests left on record
    browser.visit(chromium, page + "page.html", width)
    first = shown(chromium)
    assert first["numbers"] == [
        pytest.approx([acr(table)] * 2, abs=1e-6) for table in (clean, poisoned)
    ]
    assert first["drop"] == pytest.approx(paired_drop(clean, poisoned).drop, abs=1e-6)
    assert (first["alpha"], first["n"], first["radius"]) == (0.001, 1000, 0.5)

    control = press(chromium, "b-attack", Keys.ARROW_DOWN)  # paired over the victims that both have
    both = paired_drop(clean[clean["seed"] > 0], cell_of(rows, ("gaussian", 0.5, "uniform")))
    assert (
        control["drop"] == pytest.approx(both.drop, abs=1e-6)
        and "paired over 2 victims" in control["sentence"]
    )
    assert press(chromium, "b-attack", Keys.ARROW_UP)["numbers"] == first["numbers"]

    moved = press(chromium, "alpha", 7 * Keys.ARROW_LEFT)
    again = [certify_again(table, alpha=moved["alpha"]) for table in (clean, poisoned)]
    assert moved["alpha"] == 0.0002
    assert moved["numbers"] == [
        pytest.approx([acr(new), acr(old)], abs=1e-6) for new, old in zip(again, (clean, poisoned))
    ]
    assert moved["drop"] == pytest.approx(paired_drop(*again).drop, abs=1e-6)
    assert (
        moved["curve"] != first["curve"] and moved["share"] == first["share"]
    )  # alpha is no part of p_A

    further = press(chromium, "radius", 10 * Keys.ARROW_RIGHT)
    shares = [f"{100 * certified_accuracy(table, [0.6])[0]:.1f} %" for table in again]
    assert [line[3] for line in further["texts"]] == shares and further["radius"] == 0.6
    assert all(f"{share} at 0.60" in further["label"] for share in shares)
    assert [line[4] for line in further["texts"]] == [
        f"{100 * abstention(table):.1f} %" for table in again
    ]

    nothing = press(
        chromium, "n", Keys.HOME
    )  # 0.0002^(1/10) is below 1/2: ten draws certify no point
    assert (
        nothing["n"] == 10
        and nothing["numbers"][0][0] == 0
        and nothing["sentence"].startswith("The ACR of A is 0")
    )
    fewer = press(chromium, "n", 10 * Keys.ARROW_RIGHT)
    assert fewer["n"] == 100 and 0 < fewer["numbers"][0][0] < min(
        0.5 * stats.norm.ppf(0.0002 ** (1 / 100)), acr(again[0])
    )
    assert fewer["share"] != further["share"]
    assert press(chromium, "n", Keys.END)["numbers"] == moved["numbers"]

    other = press(chromium, "a-trainer", "M")  # MACER: its other sigma and n, and its stopped rows
    macer = certify_again(cell_of(rows, ("macer", 0.25, "none")), alpha=moved["alpha"])
    assert other["n"] == 1000  # B has no more, and both are certified from as many
    assert other["numbers"][0][1] == pytest.approx(
        acr(cell_of(rows, ("macer", 0.25, "none"))), abs=1e-6
    )
    press(chromium, "compare", Keys.SPACE)
    alone = press(chromium, "n", Keys.END)
    assert alone["n"] == 100_000 and alone["sentence"] == "" and len(alone["numbers"]) == 1
    assert alone["numbers"][0][0] == pytest.approx(acr(macer), abs=1e-6)
    assert alone["texts"][0][4] == f"≥ {100 * abstention(macer):.1f} %"
    assert browser.complaints(chromium, page) == []


@in_browser
def test_page_is_legible_at_both_widths(chromium, page):
    import test_book

    assert test_book.browser_faults(chromium, page, "page.html") == []
    unlabelled = """
        const fields = [...document.querySelectorAll('select, input')];
        return fields.filter((e) => e.labels.length !== 1).map((e) => e.id);
    """
    assert chromium.execute_script(unlabelled) == []


@in_browser
@pytest.mark.skipif(not BUILT.exists(), reason=f"no {BUILT}: run `make book` first")
def test_built_page_shows_the_acr_of_the_rows(chromium):
    with browser.served(BUILT.parent) as base:
        browser.complaints(chromium, base)
        browser.visit(chromium, base + BUILT.name)
        numbers = shown(chromium)["numbers"]
        assert len(numbers) >= 1 and all(
            now == pytest.approx(committed, abs=1e-6) for now, committed in numbers
        )
        assert browser.complaints(chromium, base) == []
