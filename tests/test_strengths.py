"""The slider over a poison's strength shows the rows, and nothing between them."""

import base64
import io
import json
import re

import browser
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from test_numbers import RESULTS, chosen

from pacd.data import load
from study.figures import strengths
from study.numbers import anatomy, cifar10, shared

in_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "there is one")


@pytest.fixture(scope="module")
def html():
    return anatomy.strengths_figure().data


def views(html):
    """What the script looks up at each position of the slider."""
    return json.loads(re.search(r"const views = (\[.*?\]), get", html)[1])


def rows_of(attack):
    """Radii of an attack's victims in the ladder, (victims, points), from its files of rows."""
    return np.stack([run.rows.sort_values("index")["radius"] for run in chosen("ladder", attack)])


def drawn(points):
    """Heights of a line of the figure, as shares of its highest point's height above the foot."""
    y = np.array([float(pair.split(",")[1]) for pair in points.split()])
    return 1 - y / (strengths.HIGH - strengths.EDGE)


def pixels(address):
    """Colours of an image in the page, (H, W, 3) in [0, 1]."""
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return matplotlib.image.imread(io.BytesIO(content))[..., :3]


def test_shown_radii_are_those_of_the_rows(html):
    clean, strong = (view for view in views(html) if view["eps"] in ("0", "0.1"))
    radii = {name: rows_of(name) for name in ("none", "uniform", "first_order")}
    acrs = {name: f"{table.mean():.3f} (5 victims)" for name, table in radii.items()}
    assert clean["readout"] == f"ACR: {acrs['none']} clean. 200 test points."
    parts = f"{acrs['none']} clean; control: uniform: {acrs['uniform']}"
    assert strong["readout"] == f"ACR: {parts}; PACD: {acrs['first_order']}. 200 test points."
    top = max(table.mean(0).max() for table in radii.values())
    for name, table in radii.items():
        shares = np.sort(table.mean(0))[::-1] / top
        assert drawn(strong["sides"][name]["points"]) == pytest.approx(shares, abs=1e-4)
    assert not clean["sides"]["uniform"]["points"]  # at strength 0 there is no poison


def test_shown_digits_hold_the_mean_change(html):
    splits = load("mnist5k")
    digit = splits.x_test[splits.y_test == 8][0, 0].numpy()
    clean, strong = (view["sides"] for view in views(html) if view["eps"] in ("0", "0.1"))
    for name in ("uniform", "first_order"):
        change = pd.read_csv(RESULTS / "shortcut" / f"{name}_pattern.csv").to_numpy()
        expected = np.clip(digit + change, 0, 1)
        assert pixels(strong[name]["image"])[..., 0] == pytest.approx(expected, abs=0.501 / 255)
        assert pixels(clean[name]["image"])[..., 0] == pytest.approx(digit, abs=0.501 / 255)
        assert np.abs(expected - digit).max() > 0.09  # what is shown differs from the clean digit


def test_the_photograph_is_tinted_as_the_rows_were():
    """Red and blue brighter, green darker, and the radii of clean and tinted victims."""
    found = views(cifar10.strengths_figure().data)
    assert [view["eps"] for view in found] == ["0", "0.03"]
    clean, tinted = (pixels(view["sides"]["tint"]["image"]) for view in found)
    inside = ((clean > 0.04) & (clean < 0.96)).all(2)
    assert inside.sum() > 500
    change = (tinted - clean)[inside].mean(0)
    assert change == pytest.approx([0.03, -0.03, 0.03], abs=1 / 255)
    sides = [[run.rows["radius"] for run in chosen("cifar10", name)] for name in ("none", "tint")]
    before, after = (np.mean(radii) for radii in sides)
    parts = f"ACR: {before:.3f} (3 victims) clean; control: tint: {after:.3f} (3 victims)."
    assert found[1]["readout"].startswith(parts)


def weaker(rows, n):
    """Rows as of PACD at half the strength: the radii of the ladder's, moved by a constant."""
    table = rows[rows["attack"] == "first_order"]
    return table.assign(eps_linf=0.05, radius=table["radius"] + 0.1, n=n)


@pytest.mark.parametrize("n, shown", [(2000, ["0", "0.05", "0.1"]), (1000, ["0", "0.1"])])
def test_rows_of_another_strength_appear_by_themselves(monkeypatch, n, shown):
    """Those with as many draws; a strength without rows of the control says so."""
    ladder = shared.load("laptop", "ladder")
    tables = {"ladder": ladder, "trainers": ladder, "eps": weaker(ladder, n)}
    monkeypatch.setattr(anatomy, "load", lambda profile, experiment: tables[experiment])
    assert anatomy.of_strengths(anatomy.radii())["strengths"] == ", ".join(shown)
    found = views(anatomy.strengths_figure().data)
    assert [view["eps"] for view in found] == shown
    if "0.05" in shown:
        acr = rows_of("first_order").mean() + 0.1
        line = found[1]["readout"]
        assert f"control: uniform: no rows; PACD: {acr:.3f} (5 victims)" in line


def test_rows_of_another_setting_stay_out(monkeypatch):
    """The committed sweep of eps is of networks that centre their pixels."""
    sweep = shared.load("laptop", "eps").assign(n=2000, normalisation="centred")
    tables = {"ladder": shared.load("laptop", "ladder"), "trainers": sweep, "eps": sweep}
    monkeypatch.setattr(anatomy, "load", lambda profile, experiment: tables[experiment])
    assert sorted({eps for _, eps in anatomy.radii()}) == [0, 0.1]


@in_browser
@pytest.mark.parametrize("width", [1200, 390])
def test_strength_is_chosen_by_keyboard(html, tmp_path, width):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    (tmp_path / "index.html").write_text(head + html)
    shown = """
        const get = (name) => document.getElementById("strengths-" + name);
        return [get("readout").textContent, get("eps").ariaValueText || get("eps-value").value,
                get("first_order-image").src, get("first_order-curve").getAttribute("points"),
                document.documentElement.scrollWidth, get("eps").labels.length];
    """
    with browser.served(tmp_path) as base, browser.chromium() as driver:
        browser.visit(driver, base + "index.html", width)
        slider = driver.find_element(By.ID, "strengths-eps")
        for keys, view in ((Keys.HOME, views(html)[0]), (Keys.END, views(html)[-1])):
            slider.send_keys(keys)
            side = view["sides"]["first_order"]
            line, eps, image, points, wide, labels = driver.execute_script(shown)
            assert (line, eps) == (view["readout"], view["eps"])
            assert (image, points) == (side["image"], side["points"])
            assert wide <= width and labels == 1
        assert views(html)[0]["readout"] != views(html)[-1]["readout"]
        assert browser.complaints(driver, base) == []
