"""The figures of the theory chapter and its rows on digits."""

from pathlib import Path

import numpy as np
import pytest
from test_theory import same_boundary

from study import theory as t
from study import theory_figures as figures


def test_figure_table_is_the_theory(figures):
    rng, table = np.random.default_rng(14), figures.table()
    mean = figures.CLEAN.base + figures.CLEAN.d
    for i, j, k in rng.integers(0, table.shape[:3], (20, 3)):
        w, b, v, acr = table[i, j, k, :2], table[i, j, k, 2], table[i, j, k, 3:5], table[i, j, k, 5]
        after = t.shift_fraction(figures.CLEAN, v, figures.RHO[j])
        pair = t.boundary(after.d, after.base, t.ga_rule(after, figures.SIGMA[i]))
        assert same_boundary((w, b), pair)
        assert np.isclose(acr, t.acr(*pair, mean, figures.CLEAN.cov))
        assert np.linalg.norm(v) <= figures.EPS[k] + 1e-9
    v = table[
        :, 4, 8, 3
    ]  # the page says: at small sigma away from the others, at the largest towards them
    assert v[0] > 0 > v[-1]
    assert (
        len(figures.PoisonFigure().to_html()) < 300_000
    )  # bytes in the page beside the shared library


def test_figure_sliders_in_a_browser(figures, tmp_path):
    browser = pytest.importorskip("browser")
    if browser.missing():
        pytest.skip(browser.missing())
    import plotly

    library = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    (tmp_path / "plotly.min.js").symlink_to(library)
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script src="plotly.min.js"></script>'
    (tmp_path / "index.html").write_text(head + figures.PoisonFigure().to_html())
    change = "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'));"
    with browser.served(tmp_path) as base, browser.chromium() as driver:
        for width in (1200, 390):
            browser.visit(driver, base + "index.html", width)
            for i, j, k in ((0, 0, 0), (6, 4, 12), (3, 2, 7)):
                for name, value in (("sigma", i), ("rho", j), ("eps", k)):
                    driver.execute_script(change, f"poison-{name}", int(value))
                readout = driver.execute_script(
                    "return document.getElementById('poison-readout').textContent"
                )
                clean, poisoned = figures.table()[i, j, [0, k], 5]
                assert f"{clean:.2f} on clean data, {poisoned:.2f} on poisoned data" in readout
                # what is drawn: the boundary, and as many wrong test points as the theory finds
                data = driver.execute_script(
                    "return document.getElementById('poison-plot').data.map(d => [Array.from(d.x), Array.from(d.y)])"
                )
                w, b = figures.table()[i, j, k, :2], figures.table()[i, j, k, 2]
                z = t.signed_distance(figures.example_points()[2], w, b)
                assert len(data[4][0]) == (z <= 0).sum() and len(data[3][0]) == (z > 0).sum()
                assert np.allclose(t.signed_distance(np.array(data[6]).T, w, b), 0, atol=0.02)
            labels = driver.execute_script(
                "return [...document.querySelectorAll('input')].map(e => e.labels.length)"
            )
            assert labels == [1, 1, 1]
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert not browser.complaints(driver, base)


def test_prediction_rows_are_the_closed_form(figures):
    from pacd.data import load

    rows, prediction, parameters = figures.read()
    splits = load("mnist5k")
    keep = (splits.y_train == 8) | (splits.y_train == 3)
    x, y = (
        splits.x_train[keep].flatten(1).double().numpy(),
        np.where(splits.y_train[keep] == 8, 1, -1),
    )
    clean = t.summarise(x, y)
    x8 = x[y == 1]
    moved = x.copy()
    moved[y == 1] = np.clip(x8 + 0.1 * np.sign(clean.d), 0, 1)
    after = t.summarise(moved, y)
    for learner, rule in (
        ("mean", t.mean_rule(after)),
        ("ga", t.ga_rule(after, parameters["sigma"])),
    ):
        row = prediction[
            (prediction["learner"] == learner) & np.isclose(prediction["eps"], 0.1)
        ].iloc[0]
        pair = t.boundary(after.d, after.base, rule)
        assert np.isclose(row["acr"], t.acr(*pair, x8.mean(0), np.cov(x8.T, bias=True)), atol=1e-4)
    exact = figures.acr_table(rows, "distance").groupby(["model", "eps"])["value"].mean()
    for model, learner in (
        ("mean", "mean"),
        ("ga least squares", "ga"),
    ):  # the claim of the page, with room
        for eps in (0.0, 0.05, 0.1):
            row = prediction[
                (prediction["learner"] == learner) & np.isclose(prediction["eps"], eps)
            ].iloc[0]
            assert abs(exact[model, eps] / row["acr"] - 1) < 0.1
