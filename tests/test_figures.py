"""Figures draw the numbers that they are given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from test_tables import side

from study import style
from study.drops import drop_table
from study.figures import curator, curves, draws, drops, patterns


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def rows():
    sides = [side("none", 1.0), side("first_order", 0.45), side("uniform", 0.67)]
    return pd.concat(sides, ignore_index=True)


def lines(axis, marker=None):
    return [line for line in axis.get_lines() if marker is None or line.get_marker() == marker]


def test_drops_stand_where_they_are(rows):
    table = drop_table(rows)
    (axis,) = drops.drop_figure(table, ["attack"]).axes
    dots = [line.get_xdata()[0] for line in lines(axis, "o")]
    np.testing.assert_allclose(dots, 100 * table["drop"])
    assert [text.get_text() for text in axis.get_yticklabels()] == ["PACD", "control: uniform"]
    assert lines(axis, "o")[0].get_color() == style.TRAINER_COLOUR["gaussian"]


def test_thick_line_is_over_victims_and_thin_over_points_too():
    ends = {"low": 0.1, "low_seeds": 0.3, "drop": 0.5, "high_seeds": 0.7, "high": 0.9}
    table = pd.DataFrame([{"attack": "uniform", "trainer": "gaussian"} | ends])
    (axis,) = drops.drop_figure(table, ["attack"], threshold=None).axes
    by_width = {line.get_linewidth(): line.get_xdata() for line in lines(axis)[:2]}
    np.testing.assert_allclose(by_width[1], [10, 90])
    np.testing.assert_allclose(by_width[4], [30, 70])


def test_sweep_is_in_order(rows):
    larger = side("first_order", 0.2, eps_linf=0.2)
    table = drop_table(pd.concat([larger, rows]), ["trainer", "eps_linf"])
    (axis,) = drops.sweep_figure(table, "eps_linf", "eps").axes
    by_style = {line.get_linestyle(): line for line in lines(axis, "o")}
    assert set(by_style) == {"--", ":"}
    assert list(by_style["--"].get_xdata()) == [0.1, 0.2]
    expected = [100 * (1 - 0.55 / 1.1), 100 * (1 - 0.3 / 1.1)]
    found = np.array(by_style["--"].get_ydata(), float)
    np.testing.assert_allclose(found, expected)


def test_a_forest_has_a_line_for_each_setting_and_a_mark_for_each_attack(rows):
    other = [side(attack, acr, sigma=0.25) for attack, acr in (("none", 1.0), ("uniform", 0.5))]
    table = drop_table(pd.concat([rows, *other]), ["trainer", "sigma", "attack"])
    (axis,) = drops.forest_figure(table).axes
    names = [text.get_text() for text in axis.get_yticklabels()]
    assert sorted(names) == ["GA, σ = 0.25", "GA, σ = 0.5"]
    marks = {line.get_marker(): line for line in lines(axis) if line.get_marker() in "os"}
    expected = 100 * table.loc[table["attack"] == "uniform", "drop"]
    np.testing.assert_allclose(np.array(marks["s"].get_xdata(), float), expected)
    assert len(marks["o"].get_xdata()) == 1
    places = [names[round(y)] for y in marks["s"].get_ydata()]
    assert places == [f"GA, σ = {s:g}" for s in table.loc[table["attack"] == "uniform", "sigma"]]


def test_curve_falls_at_the_radius_of_its_points(rows):
    """Every clean point has radius 1.0, 1.1 or 1.2, so at 1.05 two of three victims are left."""
    (axis,) = curves.curve_figure(rows).axes
    clean = next(line for line in lines(axis) if line.get_label() == "clean")
    at = dict(zip(np.round(clean.get_xdata(), 4), clean.get_ydata()))
    assert at[0.0] == 1 and at[1.05] == pytest.approx(2 / 3) and at[1.25] == 0
    assert clean.get_linestyle() == "-"


def test_under_attack_a_point_resists_below_the_first_success():
    attacked = curves.under_attack(side("none", 1.0, empirical_radius=0.5, prediction=-1))
    assert (attacked["radius"] < 0.5).all() and (attacked["radius"] > 0.499).all()
    assert (attacked["prediction"] == attacked["label"]).all()


def test_each_victim_is_a_line(rows):
    (axis,) = curves.victims_figure(rows).axes
    drawn = [line.get_ydata() for line in lines(axis, "o")]
    np.testing.assert_allclose(drawn, [[1.0, 0.67, 0.45], [1.1, 0.77, 0.55], [1.2, 0.87, 0.65]])


def test_votes_are_shares_of_draws(rows):
    rows.loc[rows["attack"] == "first_order", "count_8"] = 700
    (axis,) = curves.votes_figure(rows).axes
    clean, poisoned = lines(axis)[:2]
    assert set(clean.get_xdata()) == {1.0} and set(poisoned.get_xdata()) == {0.7}


def test_shortcut_has_a_line_for_images_and_victims():
    table = pd.DataFrame(
        [
            {"victim": victim, "images": images, "seed": seed, "strength": x, "share": x / 2}
            for victim in ("clean", "poisoned")
            for images in ("target", "others")
            for seed in (0, 1)
            for x in (0, 1)
        ]
    )
    (axis,) = patterns.shortcut_figure(table).axes
    assert len(lines(axis)) == 4
    assert all(list(line.get_ydata()) == [0, 0.5] for line in lines(axis))
    assert {line.get_linestyle() for line in lines(axis)} == {"-", "--"}


def test_examples_are_best_median_and_worst():
    images = np.arange(3.0)[:, None, None, None] * np.ones((1, 1, 2, 2)) / 10
    figure = patterns.examples_figure((images, images, images), np.array([0.2, 0.9, 0.5]), 0.1)
    labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert labels == ["best\nSSIM 0.90", "median\nSSIM 0.50", "worst\nSSIM 0.20"]
    assert figure.axes[0].get_images()[0].get_array()[0, 0] == pytest.approx(0.1)


def test_roc_has_a_panel_for_each_poison():
    scores = pd.DataFrame({"attack": ["uniform", "uniform"], "fraction": [0.5, 1.0]})
    scores = scores.assign(detector="spectral", **{"tpr_0": 0.1, "tpr_0.5": 0.8, "tpr_1": 1.0})
    figure = curator.roc_figure(scores)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["control: uniform, 50 %", "control: uniform, 100 %"]
    curve = lines(figure.axes[0])[1]
    assert list(curve.get_xdata()) == [0, 0.5, 1] and list(curve.get_ydata()) == [0.1, 0.8, 1]


def test_every_detector_has_a_style():
    from pacd.curation import DETECTORS

    assert set(curator.DETECTOR_STYLE) == set(DETECTORS)


def test_draws_are_drawn_by_their_way_under_the_cap():
    table = pd.DataFrame(
        {
            "way": ["one look", "stopped early"] * 2,
            "n": [1000, 1000, 4000, 4000],
            "draws": [1000.0, 900.0, 4000.0, 2000.0],
            "acr": [1.0, 0.9, 1.5, 1.4],
        }
    )
    one, two = draws.draws_figure({"clean": table, "poisoned": table}).axes
    drawn = {line.get_label(): line for line in one.lines}
    assert drawn["stopped early"].get_xydata().tolist() == [[900, 0.9], [2000, 1.4]]
    cap = drawn["most possible"].get_xydata()
    assert cap[0, 0] == pytest.approx(900) and cap[-1, 0] == pytest.approx(4000)
    assert cap[-1, 1] == pytest.approx(norm.ppf(0.001 ** (1 / 4000)))
    assert two.get_title("left") == "poisoned"


def test_threat_draws_balls_to_one_scale():
    images = {"digit": np.zeros((4, 4)), "tint": np.ones((4, 4, 3))}
    *shown, axis = patterns.threat_figure(images, 0.9, 0.3).axes
    assert [image.get_title() for image in shown] == ["digit", "tint"]
    assert [ball.radius for ball in axis.patches] == [0.9, 0.3]
    assert axis.get_title() == "radius 0.90" and axis.texts[0].get_text() == "poisoned 0.30"
    assert axis.get_aspect() == 1


def test_parts_of_a_change_fill_its_bar():
    shares = pd.DataFrame({"shift": [0.5, 0.2], "pattern": [0.3, 0.2], "own": [0.2, 0.6]})
    (axis,) = patterns.parts_figure(shares.set_axis(["a", "b"])).axes
    ends = {round(bar.get_x() + bar.get_width()) for bar in axis.containers[-1]}
    assert ends == {100} and len(axis.containers) == 3
