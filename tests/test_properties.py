"""What holds for any settings, poison file or rows; hypothesis looks for one where it does not."""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacd import poison_file
from pacd.counts import bound
from pacd.data import Splits
from pacd.poison_file import PoisonError, whole_steps
from study import grid, keep
from study.parameters import SettingsError
from study.results import write_poison, write_rows
from study.rows import read_rows

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DEFAULTS = grid.NOTEBOOK_DEFAULTS
NUMBERS = st.integers() | st.floats() | st.booleans() | st.none()
ANYTHING = st.recursive(
    NUMBERS | st.text(max_size=9) | NUMBERS.map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@FEW
@given(st.sampled_from(sorted(DEFAULTS["victim"])), ANYTHING)
def test_any_value_is_taken_as_it_is_kept_or_refused_in_one_line(name, value):
    check = grid.SETTINGS["victim"].check
    try:
        taken = check({**DEFAULTS["victim"], name: value})
    except SettingsError as error:
        assert "must" in str(error) and str(error).isprintable()
    else:
        assert check(taken.model_dump()) == taken
        assert check(json.loads(taken.model_dump_json())) == taken


@FEW
@given(st.integers(1, 10**9), st.floats(1e-6, 1e6), st.lists(st.integers(0, 9), unique=True))
def test_numbers_mean_the_same_however_they_are_typed(whole, number, seeds):
    check = grid.SETTINGS["victim"].check
    seeds = [0, *(seed + 1 for seed in seeds)]
    values = {"epochs": whole, "lr": number, "seeds": seeds}
    expected = check({**DEFAULTS["victim"], **values})
    for typed in (
        {name: repr(value) for name, value in values.items()},
        {"epochs": float(whole), "lr": f"{number!r} ", "seeds": ",".join(map(str, seeds))},
    ):
        assert check({**DEFAULTS["victim"], **typed}) == expected


def grey(levels):
    """A class of images of one pixel."""
    x = torch.tensor(levels).view(-1, 1, 1, 1) / 255
    y = torch.zeros(len(levels), dtype=torch.int64)
    return Splits(x, y, x, y, x, y)


@st.composite
def poisons(draw):
    """Grey levels, an eps, and where in its ball each image goes, from -1 to 1."""
    levels = draw(st.lists(st.integers(0, 255), min_size=1, max_size=5))
    places = [draw(st.floats(-1, 1)) for _ in levels]
    return levels, draw(st.floats(0, 1)), places


@FEW
@given(poisons())
def test_any_poison_in_the_ball_is_read_back_and_its_8_bits_are_near(tmp_path, poison):
    levels, eps, places = poison
    splits, path = grey(levels), tmp_path / "p.npz"
    change = eps * torch.tensor(places).view(-1, 1, 1, 1)
    images = (splits.x_train + change).clamp(0, 1)
    facts = {"parameters": {"target_class": 0, "eps_linf": eps}}
    write_poison(path, splits, torch.arange(len(levels)), images, facts)
    floats, eight = (poison_file.apply(path, splits, e)[0].x_train for e in (False, True))
    assert torch.equal(floats, images)
    steps = (eight * 255).round() - (splits.x_train * 255).round()
    assert steps.abs().max() <= whole_steps(eps)
    lost = (eight - images).abs() * 255  # half a step, or a whole one at the border of the ball
    assert lost.max() <= 1 + 1e-4 and lost[steps.abs() < whole_steps(eps)].le(0.5 + 1e-4).all()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    splits, path = grey([7, 100, 250]), tmp_path_factory.mktemp("kept") / "p.npz"
    facts = {"parameters": {"target_class": 0, "eps_linf": 0.1}, "trace": [{"residual": math.nan}]}
    write_poison(path, splits, torch.arange(3), (splits.x_train + 0.09).clamp(0, 1), facts)
    return splits, path, poison_file.apply(path, splits)


@settings(FEW, max_examples=300)
@given(st.sampled_from([".npz", ".json"]), st.integers(0), st.integers(1, 255))
def test_any_other_byte_of_a_poison_is_refused(kept, suffix, place, change):
    """But for one that changes nothing of what is read, such as a blank in the manifest."""
    splits, path, (whole, facts) = kept
    part = path.with_suffix(suffix)
    content = part.read_bytes()
    damaged = bytearray(content)
    damaged[place % len(content)] ^= change
    part.write_bytes(damaged)
    try:
        images, said = poison_file.apply(path, splits)
    except PoisonError as error:
        assert len(str(error)) > 20
    else:
        assert suffix == ".json" and str(said) == str(facts)
        assert torch.equal(images.x_train, whole.x_train)
    finally:
        part.write_bytes(content)


TABLES = "one.csv", "one.json", "t.csv.xz", "t.runs.json"  # a run's own files, and kept ones


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The bytes of two runs' rows in both forms, and what is read of each."""
    folder = tmp_path_factory.mktemp("tables")
    facts = {"parameters": {"trainer_options": {"lam": 0.1}, "sigma": 0.5}, "poison": None}
    facts = {**facts, "accuracy": {0: {"all": 0.5, "target": 0.25}}, "commit": "é"}
    for run, radius in (("one", 1 / 3), ("two", 0.1), ("three", 2.0)):
        table = pd.DataFrame({"seed": 0, "index": [3, 5], "radius": radius, "precision": "int8"})
        write_rows(folder / f"{run}.csv", table, facts)
    keep.gather(folder / "t.runs.json", [folder / "two.csv", folder / "three.csv"])
    content = {name: (folder / name).read_bytes() for name in TABLES}
    return content, {run: read_rows(folder / f"{run}.csv") for run in ("one", "two")}


@settings(FEW, max_examples=400)
@given(st.sampled_from(TABLES), st.integers(0), st.integers(0, 2), st.integers(1, 255))
def test_any_other_byte_of_rows_is_refused(tables, name, place, more, change):
    """Changed, deleted or inserted; but for one that changes nothing of what is read."""
    content, whole = tables
    run, place = ("one" if name.startswith("one") else "two"), place % len(content[name])
    head, byte, tail = (
        content[name][part] for part in (slice(place), place, slice(place + 1, None))
    )
    other = [[byte ^ change], [], [change, byte]][more]
    with tempfile.TemporaryDirectory() as folder:  # a new one, as tables are read once
        for part, whole_part in content.items():
            (Path(folder) / part).write_bytes(whole_part)
        (Path(folder) / name).write_bytes(head + bytes(other) + tail)
        try:
            back = read_rows(Path(folder) / f"{run}.csv")
        except FileNotFoundError:
            assert name == "t.runs.json"  # a run of another name
        except ValueError as error:
            assert str(error).startswith(folder) and " must " in str(error)
        else:
            pd.testing.assert_frame_equal(back, whole[run], check_exact=True)


@st.composite
def certificates(draw):
    """Rows of one victim: counts of three classes, some points never drawn."""
    points, n = draw(st.integers(1, 6)), draw(st.integers(1, 10**6))
    first = [draw(st.integers(0, n)) for _ in range(points)]
    second = [draw(st.integers(0, n - k)) for k in first]
    counts = np.stack([first, second, n - np.add(first, second)], 1)
    counts[[draw(st.booleans()) for _ in range(points)]] = 0
    rows = pd.DataFrame({"seed": 0, "index": range(points), "label": draw(st.integers(0, 2))})
    rows = rows.assign(guess=[draw(st.integers(0, 2)) for _ in range(points)], n=counts.sum(1))
    rows = rows.assign(alpha=draw(st.floats(1e-6, 0.5)), sigma=draw(st.floats(0.01, 9)))
    return bound(rows.assign(**{f"count_{c}": column for c, column in enumerate(counts.T)}))


@FEW
@given(certificates())
def test_any_rows_are_read_back_and_say_their_certificates_again(tmp_path, rows):
    facts = {"parameters": {"trainer_options": {}, "sigma": 0.5, "seed": 9}, "poison": None}
    write_rows(tmp_path / "r.csv", rows, {**facts, "accuracy": {0: {"all": 0.5, "target": 0.25}}})
    back = read_rows(tmp_path / "r.csv")
    pd.testing.assert_frame_equal(back[rows.columns], rows, check_dtype=False, check_exact=True)
    again = bound(back[rows.columns].drop(columns=["p_lower", "prediction", "radius"]))
    pd.testing.assert_frame_equal(again, rows, check_dtype=False, check_exact=True)
    wins = np.array([row[f"count_{row['guess']}"] for row in rows.to_dict("records")])
    assert (rows["p_lower"] <= wins / rows["n"].clip(lower=1)).all()
    assert (rows["radius"][rows["prediction"] != rows["label"]] == 0).all()
    assert (rows["radius"] >= 0).all() and np.isfinite(rows["radius"]).all()
