"""The numbers that the theory chapter says: a dict of texts for each page."""

import json

import numpy as np

from pacd.data import load
from study import theory, theory_digits, theory_plots
from study import theory_first_figures as first
from study import theory_first_layer as first_layer
from study import theory_projection_figures as projected
from study.results import ROOT, manifest_path


def overview():
    """The running example: two classes one apart, spread 0.25, an attacker of radius 0.3."""
    D, s, r, p = 1.0, 0.25, 0.3, 0.1
    d = np.array([D])
    clean = theory.mean_positive_part(D / 2, s)
    left = theory.mean_positive_part(theory.best_shift(d, r, 0.0)[1], s)
    summary = theory.Summary(d, np.zeros(1), s**2 * np.eye(1), 0.5)
    return {
        "clean": f"{clean:.3f}",
        "left": f"{left:.3f}",
        "fall": f"{100 * (1 - left / clean):.0f}",
        "floor": f"{theory.margin_floor(summary, theory.mean_rule(summary), r):.2f}",
        "switch": f"{theory.switch_noise(p, s**2, D, r):.2f}",
        "p": f"{100 * p:.0f}",
    }


def digits(eps=0.1):
    """Of the embedded digits: the closed form's error, what is lost, and the floors, at eps."""
    rows, prediction, parameters = theory_plots.read()
    mean, ga = (prediction[prediction["learner"] == name] for name in ("mean", "ga"))
    now = ga[np.isclose(ga["eps"], eps)].iloc[0]
    floor = mean[np.isclose(mean["eps"], eps)].iloc[0]["floor"]
    return {
        **_errors(rows, prediction, eps),
        **_floors(eps),
        **_poisons(eps),
        "offset_share": f"{100 * now['offset'] / (now['offset'] + now['angle']):.0f}",
        "gap": f"{now['gap']:.2f}",
        "floor_mean": f"{floor:.2f}",
        "floor_ga": f"{ga['floor'].iloc[0]:.2f}",
        "margin_ga": f"{ga['margin'].iloc[0]:.2f}",
        "floor_ga_end": f"{ga['eps'][~np.isfinite(ga['floor'])].min():.3f}",
        "test_points": str(rows["point"].nunique()),
        "copies": str(parameters["copies"]),
        "mnist_size": f"{theory_plots.read('linear_vs_lenet_mnist')[2]['train_size']:,}",
    }


def _errors(rows, prediction, eps):
    """Worst error of the closed form up to eps, and the loss at eps, of each linear classifier."""
    grid = [value for value in sorted(rows["eps"].unique()) if value <= eps]
    texts = {}
    for short, model in (("mean", "mean"), ("ls", "ga least squares"), ("lr", "ga logistic")):
        found = [theory_plots.lost_and_error(rows, prediction, model, value) for value in grid]
        texts[f"worst_{short}"] = f"{max(error for *_, error in found):.0f}"
        exact = theory_plots.acr_table(rows[rows["model"] == model], "distance")
        exact = exact.groupby("eps")["value"].mean()
        texts[f"lost_{short}"] = f"{100 * (1 - exact[eps] / exact[0.0]):.0f}"
    return texts


def _floors(eps):
    """What the floors rest on, from the images: pixels without a difference, and the means' e."""
    splits = load("mnist5k")
    x, y = theory_digits.pick(splits.x_train, splits.y_train, 8, [3])
    clean = theory.summarise(theory_digits.flat(x), np.where(y == 1, 1, -1))
    eights = [part[labels == 8] for part, labels in _held_out(splits)]
    test = np.vstack([theory_digits.flat(part) for part in eights])
    D, pixels = np.linalg.norm(clean.d), len(clean.d)
    return {
        "pixels": str(pixels),
        "still": str(int((clean.d == 0).sum())),
        "eps_most": f"{D / np.sqrt(pixels):.3f}",
        "reach": f"{theory.reach(eps, 1.0, pixels, np.inf):.1f}",
        "floor_ball": f"{(D - theory.reach(eps, 1.0, pixels, np.inf)) / 2:.2f}",
        "e_test": f"{np.linalg.norm(test.mean(0) - clean.base - clean.d):.2f}",
    }


def _poisons(eps):
    """ACR by the closed form after three poisons that are clipped to [0, 1]."""
    splits = load("mnist5k")
    x, y = theory_digits.pick(splits.x_train, splits.y_train, 8, [3])
    x, eights = theory_digits.flat(x), np.array(y == 1)
    d, texts = x[eights].mean(0) - x[~eights].mean(0), {}
    ways = {"still": np.sign(d), "corner": theory.signs(d), "bright": np.ones(len(d))}
    for name, way in ways.items():
        after = theory_digits.after_shift(x, eights, eps * way)
        for learner, rule in (("mean", theory.mean_rule), ("ga", theory.ga_rule)):
            chosen = rule(after, first.SIGMA) if learner == "ga" else rule(after)
            pair = theory.boundary(after.d, after.base, chosen)
            acr = theory.acr(*pair, x[eights].mean(0), np.cov(x[eights].T, bias=True))
            texts[f"acr_{name}_{learner}"] = f"{acr:.3f}"
    return texts


def _held_out(splits):
    return (splits.x_test, splits.y_test), (splits.x_val, splits.y_val)


def lenet(eps=0.1):
    """What the LeNet and least squares lose under the same sampling certifier, per cent."""
    rows, _, parameters = theory_plots.read()
    table = theory_plots.acr_table(rows, "radius")
    share = table.pivot_table(index=["model", "seed"], columns="eps", values="value")
    clean = share[0.0].groupby("model").mean()
    lost = 100 * (1 - share.div(clean, axis=0, level="model"))
    network, squares = lost.loc["lenet"], lost.loc["ga least squares"]
    return {
        "sigma": f"{parameters['sigma']:.2f}",
        "n": f"{parameters['n']:,}",
        "seeds": str(rows["seed"].nunique()),
        "certified": str(rows.dropna(subset=["radius"])["point"].nunique()),
        "lenet_lost": f"{network[eps].mean():.0f}",
        "lenet_low": f"{network[eps].min():.0f}",
        "lenet_high": f"{network[eps].max():.0f}",
        "ls_sampled": f"{squares[eps].mean():.0f}",
        "last_eps": f"{lost.columns[-1]:.1f}",
        "lenet_last": f"{network.iloc[:, -1].mean():.0f}",
        "ls_last": f"{squares.iloc[:, -1].mean():.0f}",
    }


def figures():
    """All numbers of the chapter's page of figures."""
    return {**digits(), **lenet()}


def first_layer_page():
    """Of the page on the first layer: shares that are kept, and what the runs lost, per cent."""
    texts = {f"share_{t:g}": f"{share:.2f}" for t, share in first.shares().items()}
    for run in first.RUNS:
        rows = first.read(run)
        if rows is None:
            continue
        texts[f"{run}_seeds"] = str(rows["seed"].nunique())
        for t, drop in first.drops(rows).items():
            texts[f"{run}_{t:g}"] = f"{100 * drop.drop:.0f}"
    return {**texts, **_closed_form(), "brightness": f"{weighed_brightness():.3f}"}


def _closed_form():
    """Per cent lost by the learners of the closed form, such as ``ridge_0.01_0.5``."""
    rows, texts = first.prediction(), {}
    rows["kind"] = rows["gamma"].where(rows["learner"] == "ridge", rows["steps"])
    table = rows.pivot_table("acr", ["learner", "kind", "subtract"], "attack")
    lost = 100 * (1 - table["uniform"] / table["none"])
    for (learner, kind, t), value in lost.items():
        texts[f"{learner}_{kind:g}_{t:g}"] = f"{value:.0f}"
    return texts


def weighed_brightness():
    """The mean pixel of the poisoned digits, pixels weighed as B of `theory.ga_rule` does."""
    poisoned = first.digits()[1]
    weights = theory.ga_rule(poisoned, first.SIGMA).B.sum(0)
    return first_layer.overall_mean(poisoned) @ weights / weights.sum()


def parameters(run):
    """The parameters that a run on the first layer had."""
    path = ROOT / "data" / "results" / "theory" / f"first_layer_{run}.csv"
    return json.loads(manifest_path(path).read_text())["parameters"]


def projection_page():
    """Of the page on a projection as the first layer: lengths, and per cent of the clean margin."""
    texts = {"eps": f"{projected.EPS:g}", "eights": str(len(projected.digits()[0]))}
    for count, row in projected.table().iterrows():
        texts |= {f"{name}_{count}": f"{row[name]:.2f}" for name in (*projected.LENGTHS, "clean")}
        for name in ("floor", "worst", "bright_margin"):
            texts[f"lost_{name}_{count}"] = f"{100 * (1 - row[name] / row['clean']):.0f}"
    return texts
