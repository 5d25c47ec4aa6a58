"""The Explorer: its JavaScript, in Chromium, against the Python it follows, on the same rows."""

import json
import os
from pathlib import Path
from urllib.parse import urlencode

import browser
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pacd.counts import bound, counts_of, lower_bound
from study import explorer, frames
from study.intervals import (
    abstention,
    acr,
    certified_accuracy,
    mean_interval,
    paired_drop,
    probit_p,
    recertify,
)

BOOK = Path(__file__).parents[1] / "book"
BUILT = Path(os.environ.get("PACD_BOOK") or BOOK / "_build" / "html") / "explorer.html"
SCRIPT = (BOOK / "explorer.js").read_text(encoding="utf-8")

in_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())

# What the runs of one cell have in common.
FACTS = {"dataset": "mnist", "train_size": 10_000, "target_class": 1, "architecture": "lenet"}
FACTS |= {"normalisation": "none", "crafting_architecture": "lenet", "poison_seed": 0.0, "n0": 100}
FACTS |= {"eps_linf": 0.1, "fraction": 1.0, "epochs": 10, "precision": "float32", "alpha": 0.001}
FACTS |= {"noise_seed": 7, "experiments": "ladder", "label": 1, "split_seed": 0, "batch": 100}
FACTS |= {"trainer_options": "", "lr": 0.001, "schedule": "cosine", "weight_decay": 0.0}
FACTS |= {"optimizer": "adam", "training_precision": "float32", "augmentation": "none"}


def made_rows(
    trainer, sigma, attack, n=1000, strength=1.5, stop_wrong=False, seeds=(0, 1, 2), points=20
):
    """Rows with counts of classes 0 to 2 and label 1, a run a victim.

    Every tenth guess is wrong; the first point wins every draw.
    """
    rng = np.random.default_rng(len(attack) + n)
    seed, point = np.divmod(np.arange(len(seeds) * points), points)
    p = np.where(point == 0, 1, stats.norm.cdf(rng.normal(strength, 1, len(point))))
    guess = np.where(point % 10 == 9, 2, 1)
    drawn = n * ~(stop_wrong & (guess == 2))
    k = rng.binomial(drawn, p)
    seed = np.array(seeds)[seed]
    rows = pd.DataFrame({"seed": seed, "index": 100 + point, "guess": guess, "n": drawn})
    rows = rows.assign(
        **FACTS,
        sigma=sigma,
        trainer=trainer,
        crafting_trainer=trainer,
        attack=attack,
        run=[f"{trainer}-{sigma}-{attack}-{victim}" for victim in seed],
        count_0=drawn - k,
        count_1=np.where(guess == 1, k, 0),
        count_2=np.where(guess == 2, k, 0),
    )
    return bound(rows)


KEY = ["trainer", "sigma", "attack"]


@pytest.fixture(scope="module")
def rows():
    """The control lacks one victim; MACER has other draws, and stops where the guess is wrong."""
    strengths = {"none": 1.5, "first_order": 0.3, "uniform": 0.8}
    cells = [("gaussian", 0.5, attack, 1000, s) for attack, s in strengths.items()]
    cells += [("macer", 0.25, "none", 100_000, 2.0, True)]
    cells += [("macer", 0.25, "first_order", 100_000, 0.5, True)]
    made = pd.concat([made_rows(*cell) for cell in cells], ignore_index=True)
    return made[(made["attack"] != "uniform") | (made["seed"] > 0)]


@pytest.fixture(scope="module")
def other(rows):
    """Rows of a second profile: the clean victims under another name of the experiment."""
    return rows[(rows["sigma"] == 0.5) & (rows["attack"] == "none")].assign(experiments="draws")


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as driver:
        yield driver


HEAD = """<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><title>x</title></head>"""


@pytest.fixture
def page(rows, other, tmp_path):
    """The figure alone, outside the book."""
    body = f"<body><main>{explorer.html({'laptop': rows, 'paper': other})}</main></body>"
    text = f'<!doctype html><html lang="en">{HEAD}{body}</html>'
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    with browser.served(tmp_path) as base:
        yield base


def run(driver, body, *arguments):
    return driver.execute_script(f"{SCRIPT}\n{body}", *arguments)


def cell_of(rows, key):
    return rows[(rows[KEY] == list(key)).all(axis=1)]


def compact(rows):
    """The data of one profile, its cells with the seeds, codes and points that the page gives them.

    As a browser reads it.
    """
    data = json.loads(json.dumps(explorer.compact({"laptop": rows})))["profiles"]["laptop"]
    for cell in data["cells"]:
        own = [data["victims"][victim] for victim in cell["victims"]]
        cell["seeds"] = [victim["seed"] for victim in own]
        cell["codes"] = [victim["codes"] for victim in own]
        cell["index"] = data["points"][own[0]["points"]]
    return data


def cell_with(rows, key):
    """The one cell of the data that holds a trainer, sigma and attack of made rows."""
    (cell,) = compact(cell_of(rows, key))["cells"]
    return cell


# ---- the data ----


def code_of(row, n):
    if row["prediction"] == -2:
        return None
    lost = n - row[f"count_{row['guess']}"]
    return lost if row["guess"] == row["label"] else -1 - lost


def test_codes_hold_the_counts(rows):
    for key, table in rows.groupby(KEY):
        cell = cell_with(rows, key)
        expected = [code_of(row, cell["n"]) for _, row in table.iterrows()]
        assert sum(cell["codes"], []) == expected
        assert cell["seeds"] == [0, 1, 2][key[2] == "uniform" :]
        assert cell["index"] == list(range(100, 120))
        found = [cell[name] for name in ("sigma", "n", "alpha", "noise_seed")]
        assert found == [key[1], table["n"].max(), 0.001, 7]


def test_a_victim_of_several_experiments_is_there_once(rows):
    clean = cell_of(rows, ("gaussian", 0.5, "none"))
    data = compact(clean.assign(experiments="ladder, eps"))
    assert len(data["victims"]) == 3
    assert [cell["key"][0] for cell in data["cells"]] == ["ladder", "eps"]
    assert [cell["victims"] for cell in data["cells"]] == [[0, 1, 2]] * 2


def test_a_cell_may_be_stopped_everywhere(rows):
    stopped = {"n": 0, "count_0": 0, "count_1": 0, "count_2": 0, "prediction": -2, "radius": 0.0}
    poisoned = cell_of(rows, ("macer", 0.25, "first_order")).assign(**stopped)
    both = pd.concat([cell_of(rows, ("macer", 0.25, "none")), poisoned])
    _, cell = compact(both)["cells"]
    assert cell["n"] == 100_000 and set(sum(cell["codes"], [])) == {None}


@pytest.mark.parametrize("name, value", [("looks", 4), ("u", 0.5)])
def test_rows_under_another_bound_are_left_out(rows, name, value):
    kept = rows[rows["attack"] == "none"]
    others = rows[rows["attack"] != "none"].assign(**{name: value})
    assert compact(pd.concat([kept, others])) == compact(kept)


@pytest.mark.parametrize("name", ["alpha", "noise_seed", "index"])
def test_victims_that_were_certified_otherwise_are_refused(rows, name):
    clean = cell_of(rows, ("gaussian", 0.5, "none"))
    clean = clean.assign(**{name: clean[name].where(clean["seed"] > 0, clean[name] + 1)})
    what = "test points" if name == "index" else name
    with pytest.raises(ValueError, match=f"{what} must be the same for every victim of ladder / "):
        explorer.compact({"laptop": clean})


def test_runs_that_no_choice_tells_apart_are_refused(rows):
    clean = cell_of(rows, ("gaussian", 0.5, "none"))
    again = clean.assign(run=clean["run"] + "-again")
    with pytest.raises(ValueError, match="must hold each victim seed once"):
        explorer.compact({"laptop": pd.concat([clean, again])})
    named = again.assign(epochs=30)
    keys = [cell["key"] for cell in compact(pd.concat([clean, named]))["cells"]]
    assert [key[5] for key in keys] == ["as-usual", "epochs-30"]


def test_a_large_study_fits_into_the_page():
    """100 cells of 5 victims and 200 points with the longest counts, twice, stay below 1.5 MB."""
    one = made_rows("gaussian", 0.5, "none", 100_000, strength=-1, seeds=range(5), points=200)
    cells = [one.assign(sigma=0.5 + i / 100, run=one["run"] + f"-{i}") for i in range(100)]
    made = pd.concat(cells)
    assert len(explorer.html({"laptop": made, "paper": made})) < 1.5e6


@pytest.fixture(scope="module")
def committed():
    return {profile: frames.rows(profile) for profile in explorer.PROFILES}


def test_committed_rows_are_all_there(committed):
    """Every run of victims has a place, and the data stay within the limit."""
    data = explorer.compact(committed)
    for profile, table in committed.items():
        found = data["profiles"][profile]
        assert len(found["victims"]) == table["run"].nunique()
        named = {victim for cell in found["cells"] for victim in cell["victims"]}
        assert named == set(range(len(found["victims"])))
    assert len(json.dumps(data, separators=(",", ":"))) < 1.5e6


def test_a_cited_comparison_keeps_its_name(committed):
    """Links hold these names: who changes one breaks the links that readers have cited."""
    cells = explorer.compact(committed)["profiles"]["laptop"]["cells"]
    begins = "MNIST-10-000-training-images-class-8/GA/0.5/lenet-raw-pixels/as-usual/"
    named = {"/".join(cell["key"]) for cell in cells}
    assert {f"ladder/{begins}clean", f"ladder/{begins}PACD"} <= named


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
            "return arguments[0].map(([k, n, alpha]) => explorer.lowerBound(k, n, alpha))",
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
        "return arguments[0].map(explorer.normalQuantile)",
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
        run(chromium, "return arguments[0].map((draw) => explorer.hypergeometric(...draw))", grid)
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
        const u = explorer.generator(arguments[0]);
        const one = () => explorer.hypergeometric(1000, 900, 400, u());
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
    # JSON has no infinity, so a probit of a wrong guess arrives as None.
    result = run(driver, "return explorer.certify(...arguments)", cell_with(rows, key), n, alpha)
    flat = {name: sum(result[name], []) for name in ("k", "radius", "probit")}
    return cell_of(rows, key), result | flat


CELLS = [(("gaussian", 0.5, "first_order"), 1000), (("macer", 0.25, "none"), 100_000)]


@in_browser
@pytest.mark.parametrize("key, n", CELLS)
@pytest.mark.parametrize("alpha", [1e-6, 0.001, 0.5])
def test_all_draws_give_the_radii_of_the_certifier(chromium, rows, key, n, alpha):
    table, found = certified(chromium, rows, key, n, alpha)
    again = recertify(table, alpha=alpha)
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
    found = run(chromium, "return explorer.pairedDrop(...arguments)", *radii)
    drop = paired_drop(clean, poisoned)
    expected = drop.drop, drop.drop - drop.low_seeds, drop.drop - drop.low
    assert [found["drop"], found["halfSeeds"], found["half"]] == pytest.approx(expected, abs=1e-9)
    for at in (0, 0.4):
        values = [certified_accuracy(table, [at])[0] for _, table in clean.groupby("seed")]
        mean, low, _ = mean_interval(values)
        found = run(chromium, "return explorer.accuracy(...arguments)", radii[0], at)
        assert [found["mean"], found["half"]] == pytest.approx([mean, mean - low], abs=1e-9)


# ---- the page ----


def shown(driver):
    """Texts and exact values that the page shows."""
    return driver.execute_script("""
        const get = (name) => document.getElementById(`explorer-${name}`);
        const text = (name) => get(name).textContent;
        const rows = [...get("numbers").rows], drop = get("drop").querySelector("data");
        const values = (row) => [...row.querySelectorAll("data")].map((d) => Number(d.value));
        const texts = (row) => [...row.cells].map((cell) => cell.textContent.trim());
        const numbers = ["alpha", "n", "radius"].map((name) => [name, Number(get(name).value)]);
        return {...Object.fromEntries(numbers), numbers: rows.map(values), texts: rows.map(texts),
                drop: drop && Number(drop.value), sentence: text("drop"), about: text("about"),
                fault: text("fault"), hash: location.hash,
                curve: get("curve").innerHTML, share: get("share").innerHTML,
                label: get("curve").getAttribute("aria-label")};
    """)


def press(driver, name, keys):
    from selenium.webdriver.common.by import By

    driver.find_element(By.ID, f"explorer-{name}").send_keys(keys)
    return shown(driver)


def type_in(driver, name, value):
    from selenium.webdriver.common.keys import Keys

    return press(driver, name, Keys.CONTROL + "a" + Keys.NULL + str(value) + Keys.TAB)


@in_browser
@pytest.mark.parametrize("width", [1200, 390])
def test_keyboard_changes_what_is_certified(chromium, page, rows, width):
    from selenium.webdriver.common.keys import Keys

    sides = [cell_of(rows, ("gaussian", 0.5, attack)) for attack in ("none", "first_order")]
    clean, poisoned = sides
    browser.complaints(chromium, page)  # forget what other tests left on record
    browser.visit(chromium, page + "page.html", width)
    first = shown(chromium)
    assert first["numbers"] == [pytest.approx([acr(side)] * 2, abs=1e-6) for side in sides]
    assert first["drop"] == pytest.approx(paired_drop(clean, poisoned).drop, abs=1e-6)
    assert (first["alpha"], first["n"], first["radius"]) == (0.001, 1000, 0.5)
    _, low, _ = mean_interval([acr(victim) for _, victim in clean.groupby("seed")])
    assert first["texts"][0][1].endswith(f"± {acr(clean) - low:.3f}")

    control = press(chromium, "b-attack", Keys.ARROW_DOWN)  # paired over the victims that both have
    both = paired_drop(clean[clean["seed"] > 0], cell_of(rows, ("gaussian", 0.5, "uniform")))
    assert control["drop"] == pytest.approx(both.drop, abs=1e-6)
    assert "paired over 2 victims" in control["sentence"]
    assert press(chromium, "b-attack", Keys.ARROW_UP)["numbers"] == first["numbers"]

    moved = press(chromium, "alpha-slider", 7 * Keys.ARROW_LEFT)
    again = [recertify(side, alpha=0.0002) for side in sides]
    assert moved["alpha"] == 0.0002
    expected = [[acr(new), acr(old)] for new, old in zip(again, sides)]
    assert moved["numbers"] == [pytest.approx(pair, abs=1e-6) for pair in expected]
    assert moved["drop"] == pytest.approx(paired_drop(*again).drop, abs=1e-6)
    assert moved["curve"] != first["curve"]
    assert moved["share"] == first["share"]  # alpha is no part of p_A

    further = press(chromium, "radius-slider", 10 * Keys.ARROW_RIGHT)
    shares = [f"{100 * certified_accuracy(table, [0.6])[0]:.1f} %" for table in again]
    assert [line[3] for line in further["texts"]] == shares and further["radius"] == 0.6
    assert all(f"{share} at 0.60" in further["label"] for share in shares)
    abstentions = [f"{100 * abstention(table):.1f} %" for table in again]
    assert [line[4] for line in further["texts"]] == abstentions

    fewer = press(chromium, "n-slider", 10 * Keys.ARROW_LEFT)
    cap = 0.5 * stats.norm.ppf(0.0002 ** (1 / 100))
    assert fewer["n"] == 100 and 0 < fewer["numbers"][0][0] < min(cap, acr(again[0]))
    assert fewer["share"] != further["share"]
    nothing = press(chromium, "n-slider", Keys.HOME)
    assert nothing["n"] == 1 and nothing["numbers"][0][0] == 0
    assert nothing["sentence"].startswith("The ACR of A is 0")
    assert press(chromium, "n-slider", 10 * Keys.ARROW_RIGHT)["n"] == 10
    assert press(chromium, "n-slider", Keys.END)["numbers"] == moved["numbers"]

    macer = press(chromium, "a-trainer", "M")  # its other sigma and n, and its stopped rows
    table = cell_of(rows, ("macer", 0.25, "none"))
    assert macer["n"] == 1000  # B has no more, and both are certified from as many
    assert macer["numbers"][0][1] == pytest.approx(acr(table), abs=1e-6)
    assert (
        "no paired drop between cells of different trainer: macer and gaussian" in macer["sentence"]
    )
    alone = press(chromium, "b-trainer", "M")
    assert alone["n"] == 100_000  # all draws stay all draws
    assert alone["numbers"][0][0] == pytest.approx(acr(recertify(table, alpha=0.0002)), abs=1e-6)
    assert alone["texts"][0][4].startswith("≥ ")
    assert browser.complaints(chromium, page) == []


@in_browser
def test_any_alpha_draws_and_radius_can_be_typed(chromium, page, rows):
    clean = cell_of(rows, ("gaussian", 0.5, "none"))
    browser.visit(chromium, page + "page.html")
    found = type_in(chromium, "alpha", 0.01234)
    again = recertify(clean, alpha=0.01234)
    assert found["alpha"] == 0.01234
    assert found["numbers"][0][0] == pytest.approx(acr(again), abs=1e-6)
    found = type_in(chromium, "radius", 0.777)
    assert found["texts"][0][3] == f"{100 * certified_accuracy(again, [0.777])[0]:.1f} %"
    assert type_in(chromium, "n", 123)["n"] == 123
    assert type_in(chromium, "n", 5000)["n"] == 1000
    assert type_in(chromium, "n", "many")["n"] == 1000
    assert type_in(chromium, "alpha", 2)["alpha"] == 0.5


@in_browser
def test_a_link_restores_the_whole_choice(chromium, page):
    from selenium.webdriver.common.keys import Keys

    browser.visit(chromium, page + "page.html")
    press(chromium, "a-trainer", "M")
    press(chromium, "b-attack", Keys.ARROW_DOWN)
    type_in(chromium, "alpha", 0.0123)
    type_in(chromium, "n", 321)
    chosen = type_in(chromium, "radius", 0.44)
    assert chosen["hash"].startswith("#profile=laptop&a=ladder/") and not chosen["fault"]
    chromium.get("about:blank")
    browser.visit(chromium, page + "page.html" + chosen["hash"])
    assert shown(chromium) == chosen
    press(chromium, "profile", Keys.ARROW_DOWN)
    assert shown(chromium)["hash"].startswith("#profile=paper&a=draws/")
    chromium.execute_script("location.hash = arguments[0]", chosen["hash"])
    browser.resize(chromium, 1200)
    assert shown(chromium) == chosen
    chromium.execute_script("location.hash = 'a-heading'")  # of the page: nothing to restore
    browser.resize(chromium, 1200)
    assert shown(chromium) == chosen | {"hash": "#a-heading"}


A_CELL = "ladder/MNIST-10-000-training-images-class-1/GA/0.5/lenet-raw-pixels/as-usual/clean"


@in_browser
@pytest.mark.parametrize(
    "name, value",
    [
        ("profile", "smoke"),
        ("profile", "toString"),
        ("a", A_CELL + "er"),
        ("b", A_CELL.replace("ladder", "draws")),  # there, but in the other profile
        ("alpha", "0.7"),
        ("n", "1001"),
        ("n", "99.5"),
        ("radius", "-1"),
        ("radius", "wide"),
    ],
)
def test_a_bad_link_shows_the_first_selection_and_says_so(chromium, page, name, value):
    browser.visit(chromium, page + "page.html")
    first = shown(chromium)
    good = {"profile": "laptop", "a": A_CELL, "b": A_CELL, "alpha": 0.05, "n": 99, "radius": 0.1}
    links = [urlencode(choice) for choice in (good, good | {name: value})]
    browser.complaints(chromium, page)
    for link, fault in zip(links, ("", f"The rows do not hold this link's “{name}”")):
        chromium.get("about:blank")
        browser.visit(chromium, f"{page}page.html#{link}")
        found = shown(chromium)
        assert found["fault"].startswith(fault) and bool(found["fault"]) == bool(fault)
        assert (found == first | {name: found[name] for name in ("fault", "hash")}) == bool(fault)
    assert browser.complaints(chromium, page) == []


@in_browser
def test_page_is_legible_at_both_widths(chromium, page):
    import test_book

    assert test_book.browser_faults(chromium, page, "page.html") == []
    unlabelled = """
        const fields = [...document.querySelectorAll('select, input')];
        const named = (e) => e.labels.length === 1 || e.ariaLabel;
        return fields.filter((e) => !named(e)).map((e) => e.id);
    """
    assert chromium.execute_script(unlabelled) == []


@in_browser
@pytest.mark.skipif(not BUILT.exists(), reason=f"no {BUILT}: run `make book` first")
def test_built_page_shows_the_acr_of_the_rows(chromium):
    with browser.served(BUILT.parent) as base:
        browser.complaints(chromium, base)
        browser.visit(chromium, base + BUILT.name)
        numbers = shown(chromium)["numbers"]
        assert len(numbers) == 2
        assert all(now == pytest.approx(committed, abs=1e-6) for now, committed in numbers)
        assert browser.complaints(chromium, base) == []
