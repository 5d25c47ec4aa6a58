"""Strong poison bites, none does not, and both are answers."""

import re

import numpy as np
import pytest
from test_intervals import table

from pacd import data
from study import bite
from study.intervals import paired_drop
from study.results import write_poison

SMALL = ["-p", "seeds", "0,1", "-p", "epochs", "4", "-p", "points", "10", "-p", "n", "100"]
SMALL += ["-p", "architecture", "mlp", "-p", "normalisation", "none", "-p", "target_class", "0"]


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Two classes of bars in weak contrast, on noise."""
    path = tmp_path_factory.mktemp("bars") / "bars.npz"
    generator, y = np.random.default_rng(0), np.arange(400) % 2
    x = generator.integers(90, 110, (400, 8, 8))
    x[y == 0, :, :4] += 60
    x[y == 1, :, 4:] += 60
    x = x.astype(np.uint8)
    np.savez(path, x_train=x, y_train=y, x_test=x[:40], y_test=y[:40])
    return path


def poison(bars, name, change):
    """Poison of class 0 by a change of its images, (1, 8, 8)."""
    splits = data.load(str(bars))
    index = (splits.y_train == 0).nonzero().flatten()
    images = (splits.x_train[index] + change).clamp(0, 1)
    eps = (images - splits.x_train[index]).abs().max().item() + 1e-6
    source = {"dataset": str(bars), "split_seed": 0, "train_size": None, "sigma": 0.25}
    source |= {"target_class": 0, "eps_linf": eps}
    write_poison(bars.with_name(name), splits, index, images, {"parameters": source})
    return bars.with_name(name)


def test_the_answer_is_that_of_the_interval():
    """Three victims and ten points: a third is lost everywhere, or by chance nothing."""
    clean, noise = np.ones((3, 10)), np.linspace(-0.1, 0.1, 30).reshape(3, 10)
    drop = paired_drop(table(clean), table(clean * 2 / 3 + noise))
    said = bite._answer(table(clean), table(clean * 2 / 3 + noise))
    interval = f"95 % interval over 3 victims and 10 test points {drop.low:.1%} to {drop.high:.1%}"
    assert drop.low > 0 and said == f"it bites: drop of the ACR 33.3%, {interval}"
    said = bite._answer(table(clean), table(clean + noise))
    assert said.startswith("no bite that these victims could tell from none: drop of the ACR ")
    assert bite._answer(table(clean * 0), table(clean)).startswith("no answer: victims of clean da")


def test_whatever_the_answer_is_it_comes_with_what_was_assumed(bars, capsys):
    assert bite.main([str(poison(bars, "dark.npz", -0.2)), *SMALL]) is None
    first, second, third = capsys.readouterr().out.strip().splitlines()[-3:]
    assert re.match("(it bites|no bite|no answer)", first)
    assert re.fullmatch(
        r"ACR [\d.]+ clean, [\d.]+ poisoned; accuracy of the class [\d.]+% clean, [\d.]+% poisoned",
        second,
    )
    assert re.match(r"\d+ s; assumed: dataset .*bars.npz, split_seed 0, ", third)
    for told in ("sigma 0.25", "trainer gaussian", "target_class 0", "seeds [0, 1]", "n 100"):
        assert told in third


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["-p", "sgima", "1"], "unknown parameter 'sgima'; did you mean 'sigma'?"),
        (["-p", "n", "5"], "n must be 10 or more at alpha 0.001"),
        (["-p", "seeds", "3"], "seeds and points must be two or more, or there is no interval."),
        (
            ["-p", "rows_file", "x.csv"],
            "-p may name any parameter of the victims but poison_file a",
        ),
        (["-p", "target_class", "1"], "target_class must be 0, the class of this poison file, not"),
    ],
)
def test_bad_input_is_one_sentence(bars, options, sentence):
    path = poison(bars, "some.npz", 0.1)
    assert bite.main([str(path), *SMALL, *options]).startswith(sentence)


def test_no_poison_file(tmp_path):
    assert bite.main([str(tmp_path / "p.npz")]).startswith("there is no poison file ")
    (tmp_path / "p.npz").write_bytes(b"PK")
    assert "is not a readable poison file" in bite.main([str(tmp_path / "p.npz")])
