"""Tables and sentences that readers see, from rows whose numbers are known."""

import json

import numpy as np
import pandas as pd
import pytest

from study import drops, grid, style, tables
from study.drops import drop_table, further_drop, headline, percent, verdict

POINTS = 10


def side(attack, radius, seeds=(0, 1, 2), **columns):
    """Rows of victims with a known ACR that grows by 0.1 with each seed."""
    facts = {"attack": attack, "trainer": "gaussian", "sigma": 0.5, "target_class": 8}
    facts |= {"dataset": "mnist", "train_size": 10000.0, "eps_linf": 0.1, "epochs": 10}
    facts |= {"alpha": 0.001, "n": 1000, "n0": 100, "label": 8, "prediction": 8, "guess": 8}
    facts |= {"crafting_trainer": "gaussian"}
    facts |= {f"count_{label}": 1000 * (label == 8) for label in range(10)}
    lines = [
        {"seed": seed, "index": point, "radius": radius + 0.1 * seed} | facts | columns
        for seed in seeds
        for point in range(POINTS)
    ]
    return pd.DataFrame(lines)


@pytest.fixture
def rows():
    """Clean victims with ACRs 1.0, 1.1, 1.2, and two poisons; one has a victim less."""
    sides = [side("none", 1.0), side("first_order", 0.45), side("uniform", 0.67, seeds=(0, 1))]
    return pd.concat(sides, ignore_index=True)


# ---- drops ----


def test_drops_are_paired_over_the_seeds_that_both_have(rows):
    table = drop_table(rows).set_index("attack")
    assert table.loc["first_order", "drop"] == pytest.approx(1 - 0.55 / 1.1)
    assert table.loc["uniform", "drop"] == pytest.approx(1 - 0.72 / 1.05)
    assert table["seeds"].to_dict() == {"first_order": 3, "uniform": 2}
    assert (table["points"] == POINTS).all() and (table["n"] == 1000).all()
    assert (table["low"] <= table["drop"]).all() and (table["drop"] <= table["high"]).all()


def test_further_drop_is_against_the_control(rows):
    cell = further_drop(rows, "first_order", "uniform")
    assert cell["drop"] == pytest.approx(1 - 0.5 / 0.72) and cell["seeds"] == 2


def test_nothing_drops_from_a_clean_radius_of_0(rows):
    nothing = [side(attack, 0.0, seeds=(0,), sigma=1.0) for attack in ("none", "uniform")]
    nothing += [table.assign(seed=1) for table in nothing]
    table = drop_table(pd.concat([rows, *nothing], ignore_index=True)).set_index("sigma")
    assert table.loc[1.0, ["drop", "low", "high"]].isna().all()
    assert table.loc[0.5, ["drop", "low", "high"]].notna().all(axis=None)


def test_unlike_rows_are_refused_where_the_clean_radius_is_0(rows):
    """Nothing could drop, and still these are no cell."""
    sides = [
        side(attack, 0.0, seeds=(0, 1), noise_seed=i) for i, attack in ((0, "none"), (1, "uniform"))
    ]
    with pytest.raises(ValueError, match="must have the same noise_seed"):
        drop_table(pd.concat(sides, ignore_index=True))


def test_strongest_control_is_no_member_of_the_bilevel_family(rows):
    more = pd.concat([rows, side("checkerboard", 0.9)], ignore_index=True)
    assert drops.strongest_control(drop_table(more)) == "uniform"


def test_headline_is_text(rows):
    found = headline(rows)
    assert found["drop"] == "50" and found["acr_clean"] == "1.10" and found["seeds"] == "3"
    assert found["n"] == "1,000" and found["alpha"] == "0.001"
    assert all(isinstance(value, str) for value in found.values())


def test_percent_rounds_to_whole_numbers():
    assert percent({"drop": 0.346, "low": -0.004, "high": 1.0}) == "35 % [0, 100]"


def test_fall_of_accuracy_is_paired_by_seed():
    clean = [side("none", 1.0, seeds=(s,), accuracy_target=0.9 + 0.01 * s) for s in range(3)]
    poisoned = [side("uniform", 1.0, seeds=(s,), accuracy_target=0.8) for s in range(3)]
    cell = drops.fall_of_accuracy(pd.concat([*clean, *poisoned])).iloc[0]
    assert cell["clean"] == pytest.approx(91) and cell["poisoned"] == pytest.approx(80)
    assert cell["fall"] == pytest.approx(11) and cell["clean_spread"] == pytest.approx(1)
    half = 4.302652729911275 / np.sqrt(3)  # the t quantile of two degrees of freedom, times 1
    assert cell["high"] - cell["fall"] == pytest.approx(half)


# ---- verdicts ----


@pytest.fixture
def plan(monkeypatch):
    """An experiment of four runs of which one is missing."""
    monkeypatch.setattr(grid, "rows", lambda profile, experiment: (side("none", 1.0), 1))
    runs = {"ladder": ["a", "b", "c", "d"]}
    monkeypatch.setattr(grid, "load", lambda profile: grid.Grid(profile, {}, {}, {}, runs))


def cells(*ends):
    return pd.DataFrame(ends, columns=["low", "drop", "high"])


@pytest.mark.parametrize(
    "table, threshold, side, words",
    [
        (cells(), 0.3, "above", "not known yet"),
        (cells((0.1, 0.2, 0.3)), 0.3, "above", "the drop of the ACR is 20 % [10, 30]"),
        (
            cells((0.1, 0.2, 0.3), (-0.1, 0.4, 0.6)),
            0.0,
            "above",
            "falls in 1 of 2 cells, judged by the whole interval; the drops run from 20 to 40 %",
        ),
        (
            cells((0.32, 0.35, 0.4), (0.1, 0.4, 0.6), (0.1, 0.2, 0.3)),
            0.3,
            "above",
            "2 of them above 30 %, and 1 with the whole interval",
        ),
        (
            cells((0.0, 0.05, 0.08), (0.0, 0.05, 0.2)),
            0.1,
            "below",
            "below 10 % in 2 of 2 cells, with its whole interval in 1",
        ),
    ],
)
def test_verdict_counts_cells(plan, table, threshold, side, words):
    text = verdict("laptop", "ladder", table, threshold, side)
    assert words in text and text.endswith("; 1 of 4 runs are still to be made")


def test_provenance(plan):
    text = tables.provenance("ladder").data
    for part in ("MNIST, 10,000 training images", "3 of 4 runs", "10 test points", "α = 0.001"):
        assert part in text
    assert "n = 100 + 1,000" in text and "EXPERIMENT=ladder" in text


# ---- tables ----


def test_shown_drops(rows):
    shown = tables.show_drops(drop_table(rows), ["trainer", "attack"]).data
    assert list(shown["attack"]) == ["PACD", "control: uniform"]
    assert list(shown["victim"]) == ["GA", "GA"] and list(shown["drop, %"]) == ["50", "31"]
    assert list(shown["clean"]) == ["1.100", "1.050"]


def test_shown_accuracy():
    sides = [side("none", 1.0, accuracy_target=0.9), side("uniform", 1.0, accuracy_target=0.8)]
    shown = tables.show_accuracy(pd.concat(sides)).data.iloc[0]
    assert shown["clean"] == "90.0 ± 0.0" and shown["fall"] == "10.0 [10.0, 10.0]"


def test_what_the_acr_hides(rows):
    """All clean points win every draw; a tenth of the poisoned ones is stopped."""
    poisoned = rows["attack"] == "first_order"
    stopped = poisoned & (rows["index"] == 0)
    rows = rows[rows["attack"] != "uniform"].copy()
    rows.loc[poisoned, "count_8"] = 900
    rows.loc[stopped, ["n", "count_8", "radius", "prediction"]] = [0, 0, 0.0, -1]
    shown = tables.show_beyond(rows).data.iloc[0]
    assert shown["at the cap, %", "clean"] == "100" and shown["at the cap, %", "poisoned"] == "0"
    assert shown["at the cap, %", "fall"] == "100 [100, 100]"
    assert shown["abstains, %", "clean"] == "0.0"
    assert shown["abstains, %", "poisoned"] == "≥ 10.0"


def test_costs_count_what_experiments_share_once(monkeypatch, tmp_path):
    """Runs a and b share a poison, two experiments share b; c is missing."""
    made = {"trainer": "gaussian", "poison_file": "x.npz"}
    victims = {name: made | {"rows_file": str(tmp_path / f"{name}.csv")} for name in "abc"}
    for name in "ab":
        facts = {"seconds": 60, "poison_seconds": 120, "device": "CPU"}
        (tmp_path / f"{name}.csv").touch()
        (tmp_path / f"{name}.json").write_text(json.dumps(facts))
    experiments = {"first": ["a", "b"], "second": ["b", "c"]}
    plan = grid.Grid("laptop", by_notebook={"victim": victims}, experiments=experiments)
    monkeypatch.setattr(grid, "load", lambda profile: plan)
    first, second = tables.costs("laptop").to_dict("records")
    assert (first["runs"], first["poisons, min"], first["victims, min"]) == (2, 2, 2)
    assert (second["runs"], second["of"], second["poisons, min"]) == (0, 1, 0)
    assert second["all victims, min"] == 1 and first["on"] == "CPU"


# ---- names ----


def test_every_trainer_has_a_colour_and_a_name():
    assert set(style.TRAINER_COLOUR) == set(style.TRAINER_NAME)
    assert len(set(style.TRAINER_COLOUR.values())) == len(style.TRAINER_COLOUR)


@pytest.mark.parametrize(
    "attack, name",
    [
        ("none", "clean"),
        ("first_order", "PACD"),
        ("low_frequency", "control: low frequency"),
        ("mine:attack", "mine:attack"),
        ("extras.unlearnable:autoregressive", "control: autoregressive noise (AR)"),
    ],
)
def test_attacks_have_names(attack, name):
    assert style.attack_name(attack) == name


def test_a_brought_trainer_has_its_own_name_and_a_colour_that_no_other_has():
    colours = style.Colours(style.TRAINER_COLOUR)
    first, second = colours["mine:loss"], colours["yours:loss"]
    assert (
        colours["mine:loss"] == first and len({first, second, *style.TRAINER_COLOUR.values()}) == 6
    )
    assert style.TRAINER_NAME["mine:loss"] == "mine:loss"
    table = pd.DataFrame({"trainer": ["mine:loss", "macer", "gaussian"], "sigma": 0.5})
    ordered = drops.in_order_of_trainers(table)["trainer"]
    assert list(ordered) == ["gaussian", "macer", "mine:loss"]


def test_options_and_numbers_are_named_as_readers_know_them():
    sigmas = pd.Series([0.25, 0.5], name="sigma")
    trainers = pd.Series(["macer"], name="crafting_trainer")
    assert list(style.named_values(sigmas)) == ["0.25", "0.5"]
    assert list(style.named_values(trainers)) == ["MACER"]
    assert style.data_name("mnist", np.nan) == style.data_name("mnist", None) == "MNIST"


def test_an_accuracy_of_several_victims_of_a_seed_is_refused(rows):
    both = pd.concat([rows.assign(accuracy_target=0.9), rows.assign(accuracy_target=0.8)])
    with pytest.raises(ValueError, match="one victim of a seed"):
        drops.fall_of_accuracy(both)
