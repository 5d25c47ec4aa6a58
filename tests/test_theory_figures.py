"""The figures of the theory chapter, its rows on digits and the numbers that its pages say."""

import re
from pathlib import Path

import browser
import numpy as np
import pandas as pd
import pytest
from test_theory import same_boundary

from pacd.data import load
from study import theory as t
from study import theory_digits, theory_first_figures, theory_plots
from study import theory_figures as figures
from study.numbers import theory as numbers

CHAPTER = Path(__file__).resolve().parents[1] / "book" / "theory"
RESULTS = theory_plots.ROOT / "data" / "results" / "theory"
CHANGE = """
const e = document.getElementById(arguments[0]);
e.value = arguments[1];
e.dispatchEvent(new Event("input"));
"""
in_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "there is one")


def test_figure_table_is_the_theory():
    rng, table = np.random.default_rng(14), figures.table()
    mean = figures.CLEAN.base + figures.CLEAN.d
    for i, j, k in rng.integers(0, table.shape[:3], (20, 3)):
        w, b, v, acr = np.split(table[i, j, k], [2, 3, 5])
        after = t.shift_fraction(figures.CLEAN, v, figures.RHO[j])
        pair = t.boundary(after.d, after.base, t.ga_rule(after, figures.SIGMA[i]))
        assert same_boundary((w, b), pair)
        assert np.isclose(acr, t.acr(*pair, mean, figures.CLEAN.cov))
        assert np.linalg.norm(v) <= figures.EPS[k] + 1e-9
    v = table[:, 4, 8, 3]  # the page: at small sigma away from the others, at the largest towards
    assert v[0] > 0 > v[-1]
    assert len(figures.PoisonFigure().to_html()) < 300_000  # bytes beside the shared library


def test_steps_table_is_gradient_descent_on_the_digits():
    """Against a learner that takes its steps one by one, and ridge regression at the end."""
    first = theory_first_figures
    lost, weights = first.table()
    splits = load("mnist5k")
    x, y = theory_digits.pick(splits.x_train, splits.y_train, 8, [3])
    signs = np.where(y == 1, 1, -1)
    clean, test = theory_digits.flat(x), theory_digits.flat(splits.x_test[splits.y_test == 8])
    bright = np.where(signs[:, None] == 1, np.clip(clean + first.EPS, 0, 1), clean)
    i = list(first.SUBTRACT).index(0.5)
    after = [descended(images, signs, 0.5, first.SIGMA, 30) for images in (clean, bright)]
    acr = [t.acr_of_points(*pair, test) for pair in after]
    assert list(first.STEPS[:2]) == [10, 30]
    assert lost[i, 1] == pytest.approx(100 * (1 - acr[1] / acr[0]), abs=1e-3)
    normal = after[1][0] / np.linalg.norm(after[1][0])
    pooled = normal.reshape(14, 2, 14, 2).mean((1, 3))
    assert np.allclose(weights[i, 1], pooled, atol=1e-6)
    ends = [t.ridge(images, signs, t.ga_penalty(len(x), 0.5)) for images in (clean, bright)]
    acr = [t.acr_of_points(*pair, test) for pair in ends]
    assert lost[i, -1] == pytest.approx(100 * (1 - acr[1] / acr[0]), abs=0.5)
    assert len(first.StepsFigure().to_html()) < 300_000


def descended(x, y, shift, sigma, steps):
    """Gradient descent on noisy least squares of x - shift, step by step, as (w, b) in x."""
    X = np.column_stack([x - shift, np.ones(len(x))])
    H = X.T @ X / len(x) + np.diag([sigma**2] * x.shape[1] + [0.0])
    theta, rate = np.zeros(len(H)), 1 / np.linalg.eigvalsh(H)[-1]
    for _ in range(steps):
        theta = theta - rate * (H @ theta - X.T @ y / len(x))
    return theta[:-1], theta[-1] - shift * theta[:-1].sum()


def test_what_the_page_says_of_the_steps_figure():
    lost = pd.DataFrame(*theory_first_figures.table()[:1], columns=theory_first_figures.STEPS)
    lost.index = theory_first_figures.SUBTRACT
    assert lost.loc[[0.0, 0.1307], 1000].min() > 90  # within a thousand steps the radius is gone
    assert lost.loc[0.5, 1000] < 30 and lost.loc[0.5, 1_000_000] > 90
    half = [lost.loc[t, 1000:].ge(50).idxmax() for t in (0.5, 1.0)]
    assert half == [10_000, 300_000]
    assert lost[10].min() > 25  # no t protects in the very first steps


def page_with(figure, folder):
    """A page that holds nothing but an interactive figure and the library."""
    import plotly

    library = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    (folder / "plotly.min.js").symlink_to(library)
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    script = '<script src="plotly.min.js"></script>'
    (folder / "index.html").write_text(head + script + figure.to_html())


def moved(driver, prefix, **values):
    """Put sliders at positions, and what the line below them says then."""
    for name, value in values.items():
        driver.execute_script(CHANGE, f"{prefix}-{name}", int(value))
    line = f"return document.getElementById('{prefix}-readout').textContent"
    return driver.execute_script(line)


def drawn(driver, plot):
    """(x, y) of every trace of a plot."""
    traces = "data.map(d => [Array.from(d.x || []), Array.from(d.y || [])])"
    return driver.execute_script(f"return document.getElementById('{plot}').{traces}")


def fits(driver, width, sliders):
    """Does the page stay inside the window, with a label for each slider?"""
    labels = "return [...document.querySelectorAll('input')].map(e => e.labels.length)"
    wide = driver.execute_script("return document.documentElement.scrollWidth")
    return driver.execute_script(labels) == [1] * sliders and wide <= width


@in_browser
def test_figure_sliders_in_a_browser(tmp_path):
    page_with(figures.PoisonFigure(), tmp_path)
    with browser.served(tmp_path) as base, browser.chromium() as driver:
        for width in (1200, 390):
            browser.visit(driver, base + "index.html", width)
            for i, j, k in ((0, 0, 0), (6, 4, 12), (3, 2, 7)):
                line = moved(driver, "poison", sigma=i, rho=j, eps=k)
                clean, poisoned = figures.table()[i, j, [0, k], 5]
                assert f"{clean:.2f} on clean data, {poisoned:.2f} on poisoned data" in line
                data = drawn(driver, "poison-plot")  # as many wrong test points as in theory
                w, b = figures.table()[i, j, k, :2], figures.table()[i, j, k, 2]
                z = t.signed_distance(figures.example_points()[2], w, b)
                assert len(data[4][0]) == (z <= 0).sum() and len(data[3][0]) == (z > 0).sum()
                assert np.allclose(t.signed_distance(np.array(data[6]).T, w, b), 0, atol=0.02)
            assert fits(driver, width, 3)
        assert not browser.complaints(driver, base)


@in_browser
def test_steps_sliders_in_a_browser(tmp_path):
    first = theory_first_figures
    lost, weights = first.table()
    page_with(first.StepsFigure(), tmp_path)
    shown = "return document.getElementById('steps-plot').data[0].z"
    with browser.served(tmp_path) as base, browser.chromium() as driver:
        for width in (1200, 390):
            browser.visit(driver, base + "index.html", width)
            for i, j in ((0, 0), (5, 4), (7, 10)):
                line = moved(driver, "steps", subtract=i, steps=j)
                text = f"After {first.STEPS[j]:,} steps with {first.SUBTRACT[i]:g} subtracted"
                assert line.startswith(text)
                assert int(re.findall(r"(-?\d+) % of", line)[0]) == round(lost[i, j])
                data = drawn(driver, "steps-plot")
                assert data[2][1] == pytest.approx(lost[i], abs=0.051)
                assert data[3][0] == [first.STEPS[j]]
                found = np.array(driver.execute_script(shown), float)
                assert np.allclose(found, weights[i, j], atol=6e-4)
            assert fits(driver, width, 2)
        assert not browser.complaints(driver, base)


def digit_moments():
    """Embedded 8s and 3s, labels, and the summary of the clean ones."""
    splits = load("mnist5k")
    x, y = theory_digits.pick(splits.x_train, splits.y_train, 8, [3])
    x, y = theory_digits.flat(x), np.where(y == 1, 1, -1)
    return x, y, t.summarise(x, y)


def test_prediction_rows_are_the_closed_form():
    """At eps 0.1: every pixel moves, those without a difference upwards, and is clipped."""
    _, prediction, parameters = theory_plots.read()
    x, y, clean = digit_moments()
    x8, moved_x = x[y == 1], x.copy()
    up = clean.d >= 0
    moved_x[y == 1] = np.clip(x8 + np.where(up, 0.1, -0.1), 0, 1)
    after = t.summarise(moved_x, y)
    rows = prediction[np.isclose(prediction["eps"], 0.1)].set_index("learner")
    rules = {"mean": t.mean_rule(after), "ga": t.ga_rule(after, parameters["sigma"])}
    for learner, rule in rules.items():
        pair = t.boundary(after.d, after.base, rule)
        exact = t.acr(*pair, x8.mean(0), np.cov(x8.T, bias=True))
        assert rows.loc[learner, "acr"] == pytest.approx(exact, abs=1e-4)
    still = np.clip(x8 + 0.1 * np.sign(clean.d), 0, 1)  # planted: the poison of the old rows
    moved_x[y == 1] = still
    after = t.summarise(moved_x, y)
    pair = t.boundary(after.d, after.base, t.mean_rule(after))
    weaker = t.acr(*pair, x8.mean(0), np.cov(x8.T, bias=True))
    assert rows.loc["mean", "acr"] < 0.9 * weaker


def test_floors_of_the_rows_are_of_the_cube():
    _, prediction, _ = theory_plots.read()
    _, _, clean = digit_moments()
    rows = prediction[prediction["learner"] == "mean"].set_index("eps")["floor"]
    D, k = np.linalg.norm(clean.d), len(clean.d)
    size = np.sqrt(D**2 + 0.2 * np.abs(clean.d).sum() + k * 0.01)
    assert rows[0.1] == pytest.approx((D**2 - k * 0.01) / (2 * size), abs=1e-5)
    assert rows[0.1] == pytest.approx(0.464, abs=5e-4)  # 0.408 by the ball around the cube
    assert not np.isfinite(rows[0.15])  # k r^2 > D^2


def test_trained_classifiers_follow_the_closed_form():
    """What the page says, with room: in points of the clean ACR, as the rest can be next to 0."""
    rows, prediction, _ = theory_plots.read()
    predicted = prediction.set_index(["learner", "eps"])["acr"]
    exact = theory_plots.acr_table(rows, "distance").groupby(["model", "eps"])["value"].mean()
    for learner, model in theory_plots.LEARNERS.items():
        for eps in (0.0, 0.05, 0.1):
            off = exact[model, eps] - predicted[learner, eps]
            assert abs(off) < 0.06 * predicted[learner, 0.0], (model, eps, off)


@pytest.mark.parametrize(
    "page, texts",
    [
        ("index", numbers.overview),
        ("figures", numbers.figures),
        ("first_layer", numbers.first_layer_page),
        ("projection", numbers.projection_page),
    ],
)
def test_pages_say_numbers_that_there_are(page, texts):
    glued = set(re.findall(r"\{glue:text\}`(\S+?)`", (CHAPTER / f"{page}.md").read_text()))
    assert glued and glued <= set(texts())


def test_numbers_of_the_overview():
    found = numbers.overview()
    assert found["floor"] == "0.35" and found["p"] == "10"
    clean, left = float(found["clean"]), float(found["left"])
    rng = np.random.default_rng(25)
    draws = np.maximum(0, rng.normal([0.5, 0.35], 0.25, (400_000, 2))).mean(0)
    assert (clean, left) == pytest.approx(draws, abs=2e-3)
    assert int(found["fall"]) == pytest.approx(100 * (1 - draws[1] / draws[0]), abs=0.8)
    noise = float(found["switch"])
    assert t.imbalance(0.1, 0.25**2, noise) == pytest.approx(1 - 0.3**2, rel=0.02)


def test_numbers_of_the_digits():
    """By hand from images and rows."""
    found, (x, y, _) = numbers.figures(), digit_moments()
    rows = pd.read_csv(theory_plots.ROOT / "data/results/theory/linear_vs_lenet.csv")
    assert found["still"] == str((np.ptp(x, 0) == 0).sum()) and found["pixels"] == "784"
    assert found["gap"] == f"{np.linalg.norm(x[y == 1].mean(0) - x[y == -1].mean(0)):.2f}"
    assert found["floor_ball"] == "0.41" and found["reach"] == "2.8"
    assert float(found["e_test"]) > float(found["floor_mean"])  # the floor says nothing of them
    radius = rows[rows["model"] == "lenet"].groupby("eps")["radius"].mean()
    assert found["lenet_lost"] == f"{100 * (1 - radius[0.1] / radius[0.0]):.0f}"
    distance = rows[rows["model"] == "mean"].assign(d=rows["distance"].clip(lower=0))
    acr = distance.groupby("eps")["d"].mean()
    assert found["lost_mean"] == f"{100 * (1 - acr[0.1] / acr[0.0]):.0f}"


def test_what_clipping_makes_of_three_poisons():
    """Zeros that stay, zeros that go up, and plain brightening: (mean-difference, GA)."""
    found = numbers.figures()
    names = [(f"acr_{way}_mean", f"acr_{way}_ga") for way in ("still", "corner", "bright")]
    acr = [tuple(float(found[name]) for name in pair) for pair in names]
    assert acr == [(1.308, 0.587), (1.043, 0.095), (0.957, 0.038)]
    x, y, _ = digit_moments()
    x8, moved_x = x[y == 1], x.copy()
    moved_x[y == 1] = np.clip(x8 + 0.1, 0, 1)
    pair = t.ridge(moved_x, y, t.ga_penalty(len(x), 0.5))
    exact = t.acr(*pair, x8.mean(0), np.cov(x8.T, bias=True))
    assert acr[2][1] == pytest.approx(exact, abs=6e-4)


@pytest.mark.parametrize("run", theory_first_figures.RUNS)
def test_numbers_of_the_first_layer(run):
    path, found = RESULTS / f"first_layer_{run}.csv", numbers.first_layer_page()
    if not path.exists():
        assert f"{run}_0" not in found
        return
    radius = pd.read_csv(path).groupby(["subtract", "attack"])["radius"].mean().unstack()
    lost = 100 * (1 - radius["uniform"] / radius["none"])
    said = {shift: found[f"{run}_{shift:g}"] for shift in lost.index}
    assert said == {shift: f"{value:.0f}" for shift, value in lost.items()}


def test_brightness_as_the_learner_weighs_it():
    found = numbers.first_layer_page()
    x, y, _ = digit_moments()
    x[y == 1] = np.clip(x[y == 1] + 0.1, 0, 1)
    B = np.linalg.inv(t.summarise(x, y).cov + 0.25 * np.eye(784))
    mean = x.mean(0) @ B.sum(0) / B.sum()
    assert float(found["brightness"]) == pytest.approx(mean, abs=6e-4)


def test_closed_form_rows_are_those_learners():
    """One cell of each learner against the solved problem, on the embedded digits."""
    from types import SimpleNamespace

    x, y, _ = digit_moments()
    settings = SimpleNamespace(sigma=0.5, subtract=[0.5], gammas=[0.01], steps=[20])
    bright = np.where(y[:, None] == 1, np.clip(x + 0.1, 0, 1), x)
    rows = theory_digits.closed_form(x, bright, y, x[y == 1], settings)
    rows = rows.set_index(["learner", "attack"])
    X = np.column_stack([bright - 0.5, np.ones(len(x))])
    penalty = np.diag([0.25] * 784 + [0.01]) * len(x)
    theta = np.linalg.solve(X.T @ X + penalty, X.T @ y)
    acr = t.acr_of_points(theta[:-1], theta[-1], x[y == 1] - 0.5)
    assert rows.loc[("ridge", "uniform"), "acr"] == pytest.approx(acr)
    acr = t.acr_of_points(*descended(bright, y, 0.5, 0.5, 20), x[y == 1])
    assert rows.loc[("descent", "uniform"), "acr"] == pytest.approx(acr)
    assert 0.2 < rows.loc[("ridge", "uniform"), "share"] < 0.35


def test_boundary_of_a_network_is_its_own():
    import torch
    from torch import nn

    from pacd.models import Normalise

    torch.manual_seed(0)
    model = nn.Sequential(Normalise(0.3, 0.5), nn.Flatten(), nn.Linear(12, 2))
    x = torch.rand(50, 1, 3, 4)
    w, b = theory_digits.boundary_of(model, (1, 3, 4))
    logits = model(x).detach().double().numpy()
    assert np.allclose(theory_digits.flat(x) @ w + b, logits[:, 1] - logits[:, 0], atol=1e-5)
