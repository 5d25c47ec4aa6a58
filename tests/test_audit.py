"""The audit notebook's rows on tiny parameters."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from pacd.data import ROOT
from study.parameters import SettingsError
from study.settings import AuditSettings

TINY = {
    "hidden": 8,
    "train_size": 300,
    "epochs": 10,
    "images": 40,
    "draws": 4,
    "iterations": 100,
    "damping": 6.0,
}


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    parameters = json.dumps({**TINY, "rows_file": str(folder / "audit.csv")})
    command = [
        sys.executable,
        "-m",
        "papermill",
        ROOT / "notebooks" / "audit.ipynb",
        folder / "out.ipynb",
        "-y",
        parameters,
        "--no-progress-bar",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return pd.read_csv(folder / "audit.csv"), json.loads((folder / "audit.json").read_text())


def test_the_derivative_is_that_of_the_closed_form(audit):
    rows, _ = audit
    error = rows[rows["part"] == "closed form"].set_index("solver")["error"]
    assert (error[["cg", "minres", "neumann", "adam"]] < 1e-3).all()
    assert error["identity"] > 0.1  # so a solve that did nothing would be seen
    for part, bound in {
        "finite differences": 1e-4,
        "Hessian-vector product": 1e-4,
        "mixed derivative": 1e-4,
    }.items():
        assert rows.loc[rows["part"] == part, "error"].item() < bound


def test_minres_bounds_cg_and_cg_needs_positive_curvature_and_frozen_noise(audit):
    rows, facts = audit
    solves = rows[rows["part"] == "solve"].set_index(["damping", "products", "solver", "redraw"])[
        "residual"
    ]
    best, cg = (solves.xs((name, False), level=["solver", "redraw"]) for name in ("minres", "cg"))
    assert (best < cg + 1e-5).all()  # both stop at relative residuals around 1e-6
    assert best.groupby("damping").diff().max() < 1e-5
    lowest, highest = facts["curvature"]
    assert lowest + facts["parameters"]["damping"] > 0 < highest
    assert solves[6.0, 100, "cg", False] < 1e-3 < 0.05 < solves[6.0, 100, "cg", True]


def test_redrawing_fits_less_than_the_right_hand_side(audit):
    rows, _ = audit
    reference = rows[rows["part"] == "reference"].set_index("solver")
    assert (reference["residual"] < 1e-3).all()
    assert reference.loc[["frozen draw", "averaged draws"], "fit"].sub(1).abs().max() < 1e-3
    assert (
        reference.loc[["limit of redrawing", "limit of redrawing, authors' damping"], "fit"].max()
        < 0.995
    )


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"damping": 0.0}, "damping must be a number above 0, at most a million, not 0.0"),
        ({"images": 10}, "images must be a whole number from 40 to 200, not 10"),
        ({"smigma": 1.0}, "unknown parameter 'smigma'; did you mean 'sigma'\\?"),
    ],
)
def test_a_wrong_parameter_is_named(change, sentence):
    defaults = {"seed": 0, "sigma": 0.5, "threads": 1, "rows_file": None, **TINY}
    with pytest.raises(SettingsError, match="^" + sentence):
        AuditSettings.check({**defaults, **change})
