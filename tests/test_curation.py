"""Detectors find what was planted and nothing where nothing is; mitigations do what they say."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest, norm
from test_attack import problem_of
from test_notebooks import papermill

from pacd import curation
from pacd.curation import DETECTORS, Learned
from pacd.data import load
from pacd.models import make_model
from study import grid
from study.detection import RATES, auc, true_positives
from study.parameters import SettingsError
from study.results import write_poison
from study.settings import CuratorSettings, VictimSettings
from study.setup import chosen_attack


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def chosen(count, size, seed=1):
    """A random subset of ``count`` rows as a mask."""
    return torch.zeros(size, dtype=torch.bool).index_fill_(
        0, torch.randperm(size, generator=generator(seed))[:count], True
    )


# --- ROC ---


def test_auc_and_curve_of_a_hand_made_score():
    score, poisoned = [1, 2, 2, 3, 4], [False, True, False, False, True]
    assert auc(score, poisoned).auc == pytest.approx(
        (1 + 0.5 + 3) / 6
    )  # 2 beats 1 and ties 2; 4 beats all three
    # from the top: 4 is poison; 3 is not; then the tie raises both rates; then 1
    assert true_positives(score, poisoned, [0, 1 / 3, 0.5, 2 / 3, 1]).tolist() == pytest.approx(
        [0.5, 0.5, 0.75, 1, 1]
    )


def test_the_curves_area_is_the_auc():
    rng = np.random.default_rng(0)
    poisoned = rng.random(500) < 0.3
    score = np.round(rng.normal(size=500) + poisoned, 1)  # with ties
    fine = np.linspace(0, 1, 20001)
    assert np.trapezoid(true_positives(score, poisoned, fine), fine) == pytest.approx(
        auc(score, poisoned).auc, abs=1e-4
    )


def test_delong_interval_of_a_hand_made_score():
    """2 and 4 are above 0.5 and 1 of the others; 1, 2 and 3 are below 1, 0.75 and 0.5 of them."""
    found = auc([1, 2, 2, 3, 4], [False, True, False, False, True], level=0.5)
    variance = np.var([0.5, 1], ddof=1) / 2 + np.var([1, 0.75, 0.5], ddof=1) / 3
    half = norm.ppf(0.75) * np.sqrt(variance)
    assert found == pytest.approx((0.75, 0.75 - half, 0.75 + half))


def test_delong_interval_covers_at_its_level():
    """Two normal groups one standard deviation apart have AUC Phi(1 / sqrt 2)."""
    rng, truth, hits = np.random.default_rng(0), norm.cdf(np.sqrt(0.5)), 0
    poisoned = np.arange(150) < 50
    for _ in range(400):
        _, low, high = auc(rng.normal(size=150) + poisoned, poisoned)
        hits += low <= truth <= high
    assert binomtest(hits, 400, 0.95).pvalue > 1e-3


def test_one_kind_of_images_has_no_curve():
    with pytest.raises(ValueError, match="poisoned must hold both True and False"):
        auc([1, 2], [True, True])


# --- detectors ---


@pytest.fixture(scope="module")
def blobs():
    """600 images of 8 x 8 in three classes, their labels, and a network trained on them.

    The classes have grey levels 0.2, 0.5, 0.8, with noise 0.05 in each pixel.
    """
    y = torch.arange(600) % 3
    x = (
        0.2 + 0.3 * y.view(-1, 1, 1, 1) + 0.05 * torch.randn(600, 1, 8, 8, generator=generator())
    ).clamp(0, 1)
    return x, y, learned(x, y)


def learned(x, y):
    """Of centred pixels, as a dozen steps on raw ones fit little."""

    def fresh(seed):
        return make_model("mlp", (1, 8, 8), 3, seed, "centred")

    return curation.learn_from(x, y, fresh, epochs=2)


@pytest.mark.parametrize("name", DETECTORS)
def test_exchangeable_images_are_not_told_apart(blobs, name):
    """The AUC of 100 random images of one class among its 200 is the rank-sum statistic.

    Its standard deviation is sqrt((m + n + 1) / 12 m n), less where there are ties.
    """
    x, y, network = blobs
    rows = (y == 1).nonzero().flatten()
    score = DETECTORS[name](x, y, lambda: network)
    assert score.shape == (600,)
    assert abs(auc(score[rows], chosen(100, 200)).auc - 0.5) < 3.5 * np.sqrt(201 / (12 * 100 * 100))


def test_an_image_is_no_neighbour_of_its_own():
    """On a line: two neighbours with different labels, two with the same; and then all others."""
    x, y = torch.tensor([0.0, 1.0, 10.0, 11.0]).view(4, 1, 1, 1), torch.tensor([0, 1, 0, 0])
    assert curation.neighbours(x, y, k=1).tolist() == [1, 1, 0, 0]
    assert curation.neighbours(x, y).tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])


@pytest.mark.parametrize("name", ["knn_pixels", "knn_features", "high_loss"])
def test_wrong_labels_are_found(blobs, name):
    """5 % wrong labels: 19 of 20 neighbours of a flipped image disagree, 1 of 20 of the others.

    The two hardly overlap. The grey levels are far apart (0.3 against a noise of 0.05 / 8 in the
    mean), so a network that fits the majority gives every flipped label the larger loss.
    """
    x, y, _ = blobs
    flipped = chosen(30, 600)
    noisy = torch.where(flipped, (y + 1) % 3, y)
    network = learned(x, noisy)
    assert auc(DETECTORS[name](x, noisy, lambda: network), flipped).auc > 0.99


def test_low_loss_is_the_other_end_of_high_loss(blobs):
    x, y, network = blobs
    flags = chosen(50, 600)
    high, low = (
        auc(DETECTORS[name](x, y, lambda: network), flags).auc for name in ("high_loss", "low_loss")
    )
    assert high + low == pytest.approx(1)


def test_spectral_finds_a_shifted_tenth_as_often_as_theory_says():
    """One class of N(0, I) features, a tenth of it shifted by 4 along one direction.

    After centring the projections are A ~ N(3.6, 1) and B ~ N(-0.4, 1). A + B and A - B are
    independent, so with r the square root of 2

        P(|A| > |B|) = Phi(3.2 / r) Phi(4 / r) + Phi(-3.2 / r) Phi(-4 / r).
    """
    shifted = chosen(200, 2000)
    features = torch.randn(2000, 20, generator=generator())
    features[:, 3] += 4 * shifted
    score = DETECTORS["spectral"](
        None, torch.zeros(2000, dtype=torch.long), lambda: Learned(features, None)
    )
    a, b = norm.cdf(np.array([3.2, 4.0]) / np.sqrt(2))
    expected = a * b + (1 - a) * (1 - b)
    found = auc(score, shifted)
    assert abs(found.auc - expected) < 2 * (found.high - found.low)  # four standard errors each way
    assert score.mean() == pytest.approx(1, rel=1e-5)  # the scale on which classes compare


def test_spectral_compares_classes_on_one_scale():
    """One class has ten times the features, and nothing is planted: it must not fill the top."""
    y = torch.arange(1000) % 2
    features = torch.randn(1000, 10, generator=generator()) * (1 + 9 * y[:, None])
    score = DETECTORS["spectral"](None, y, lambda: Learned(features, None))
    assert abs(auc(score, y == 1).auc - 0.5) < 3.5 * np.sqrt(1001 / (12 * 500 * 500))


@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_a_grey_background_is_found_whatever_the_share(digits, fraction):
    """Digits are black in their darker half, so one 8-bit step above black separates them.

    Also where the whole class is changed.
    """
    problem = problem_of(digits, None, eps_linf=1 / 255, fraction=fraction)
    index, images, _ = chosen_attack("uniform", {})(problem)
    x = digits.x_train.index_copy(0, index, images)
    poisoned = torch.zeros(len(x), dtype=torch.bool).index_fill_(0, index, True)
    assert auc(DETECTORS["background"](x, digits.y_train, None), poisoned) == (1, 1, 1)
    assert auc(
        DETECTORS["background"](digits.x_train, digits.y_train, None), poisoned
    ).auc == pytest.approx(0.5, abs=0.01)


# --- mitigations ---


def impulse(value=1.0, side=15):
    image = torch.zeros(1, 1, side, side)
    image[..., side // 2, side // 2] = value
    return image


def test_lowpass_keeps_a_flat_image_and_spreads_a_point_as_a_gaussian():
    flat = torch.full((1, 1, 15, 15), 0.3)
    torch.testing.assert_close(curation.lowpass(flat, None)[0], flat)
    weight = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    weight /= weight.sum()
    np.testing.assert_allclose(
        curation.lowpass(impulse(), None)[0][0, 0, 4:11, 4:11], np.outer(weight, weight), atol=1e-6
    )


def test_jpeg_keeps_black_and_white_and_drops_the_finest_faint_texture():
    """A checkerboard of one grey step lies below half a quantisation step of every coefficient."""
    flat = torch.cat(
        [torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16), torch.full((1, 1, 16, 16), 128 / 255)]
    )
    assert torch.equal(curation.jpeg(flat, None)[0], flat)
    board = torch.arange(16)[:, None].add(torch.arange(16)).remainder(2) / 255
    assert torch.equal(curation.jpeg(flat[2:] + board, None)[0], flat[2:])


def test_black_point_on_a_row_of_pixels():
    row = torch.tensor([0.0, 0.1, 0.19, 0.2, 0.45, 0.9, 1.0]).view(1, 1, 1, 7)
    assert curation.black_point(row, None)[0].flatten().tolist() == pytest.approx(
        [0, 0, 0, 0.2, 0.45, 0.9, 1]
    )


def test_black_point_undoes_poison_on_black_and_leaves_it_on_strokes(digits):
    clean = digits.x_train[:200]
    for poison, undone in (
        (torch.where(clean == 0, 0.1, clean), True),
        (torch.where(clean > 0.5, clean - 0.1, clean), False),
    ):
        x, _ = curation.black_point(poison, None)
        assert torch.equal(x, curation.black_point(clean, None)[0]) == undone


def test_removal_drops_the_most_suspicious_and_no_more():
    x, y = torch.arange(50.0).view(50, 1, 1, 1), torch.arange(50) % 5
    kept, labels = curation.remove(x, y, lambda x, y, learned: x.flatten(), None, share=0.3)
    assert torch.equal(kept, x[:35]) and torch.equal(labels, y[:35])


def test_removal_of_equals_spares_no_class():
    """A set sorted by class with equal scores: the 100 removed of 1,000 are drawn at random.

    Those of one class are hypergeometric, with mean 10 and standard deviation 2.85.
    """
    y = torch.arange(1000) // 100
    _, labels = curation.remove(
        torch.zeros(1000, 1, 1, 1), y, lambda x, y, learned: torch.zeros(len(y)), None
    )
    removed = 100 - labels.bincount()
    assert removed.sum() == 100 and (removed - 10).abs().max() < 4 * 2.85


@pytest.mark.parametrize("name", curation.CURATIONS)
def test_every_mitigation_returns_images_of_the_set_that_it_was_given(blobs, name):
    x, y, _ = blobs
    cleaned, labels = curation.mitigation(name, partial(make_model, "mlp", (1, 8, 8), 3))(x, y)
    assert len(cleaned) == len(labels) == (540 if name.startswith("remove_") else 600)
    assert cleaned.dtype == x.dtype and 0 <= cleaned.min() and cleaned.max() <= 1
    assert torch.equal(cleaned, x) == (name == "none")


# --- parameters and the notebook ---


def test_an_unknown_curation_is_one_sentence():
    with pytest.raises(
        SettingsError,
        match="^curation must be one of none, lowpass, .*, not 'low_pass'; "
        "did you mean 'lowpass'\\?$",
    ):
        VictimSettings.check({**grid.NOTEBOOK_DEFAULTS["victim"], "curation": "low_pass"})


def test_the_curator_needs_a_poison_file():
    with pytest.raises(
        SettingsError,
        match="^poison_file must be the path of a poison file ending in .npz, not None",
    ):
        CuratorSettings.check({**grid._notebook_defaults("curator")})


def test_the_notebook_writes_a_row_for_each_detector_and_comparison(tmp_path):
    path = tmp_path / "p.npz"
    facts = {
        "dataset": "mnist5k",
        "trainer": "none",
        "target_class": 8,
        "eps_linf": 0.1,
        "fraction": 0.5,
        "attack": "uniform",
    }
    splits = load("mnist5k", train_size=600)
    index, images, _ = chosen_attack("uniform", {})(problem_of(splits, None, fraction=0.5))
    write_poison(path, splits, index, images, {"parameters": facts})
    done = papermill(
        "curator",
        tmp_path,
        poison_file=str(path),
        train_size=600,
        epochs=1,
        rows_file=str(tmp_path / "rows.csv"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert (
        len(rows) == 2 * 2 * len(DETECTORS)
        and set(rows["fraction"]) == {0.5}
        and (rows["poisoned"] == len(index)).all()
    )
    others = rows.groupby("against")["others"].first()
    assert others["all"] == 600 - len(index) and others["class"] == (
        splits.y_train == 8
    ).sum() - len(index)
    found = rows[(rows["detector"] == "background") & (rows["data"] == "poisoned")]
    assert (found["auc"] == 1).all() and (found[[f"tpr_{rate:g}" for rate in RATES]] == 1).all(
        axis=None
    )
    assert {"network_seconds", "train_sha256", "commit"} <= set(
        json.loads((tmp_path / "rows.json").read_text())
    )
