"""What the book's pages share: rows of an experiment, tables and figures made from them. Nothing here computes a result."""

import itertools
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from IPython.display import Markdown

from pacd.losses import TRAINERS
from study import grid
from study.claims import CLAIMS, CONTROLS, published  # noqa: F401
from study.claims import shown as decimals
from study.intervals import (
    abstention,
    acr,
    certified_accuracy,
    mean_interval,
    paired_bootstrap,
    paired_drop,
    pairs,
    point_at_cap,
    probit_p,
)
from study.results import ROOT

# Okabe and Ito's palette: told apart by colour-blind readers. One colour for a trainer everywhere, the last ones for readers' own.
PALETTE = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
TRAINER_COLOUR = dict(zip(TRAINERS, itertools.cycle(PALETTE)))
# Clean is solid, PACD dashed, a control dotted: told apart without colour too.
ATTACK_STYLE = {"none": "-", "first_order": "--"}
ATTACK_NAME = {
    "none": "clean",
    "first_order": "PACD",
    "cg": "PACD, CG",
    "direct_search": "PACD, direct search",
    "neumann": "PACD, Neumann",
    "approxgrad": "authors' setting",
    "unknown": "poison of another make",
    "gradient_matching": "gradient matching",
    "accuracy": "against standard training",
    "class_wise_learned": "control: class-wise learned",
}
TRAINER_NAME = {name: name for name in TRAINERS} | {
    "gaussian": "GA",
    "smoothadv": "SmoothAdv",
    "macer": "MACER",
}
DATA_NAME = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "mnist5k": "5,000 MNIST digits",
    "fashion_mnist": "Fashion-MNIST",
}
DATA_NAME |= {"data/downloads/cifar10-jpeg.npz": "CIFAR-10, JPEG copy"}
COLUMN_NAME = {
    "l2": "mean L2",
    "sigma": "σ",
    "eps_linf": "eps",
    "crafting_trainer": "made against",
    "normalisation": "scaling of pixels",
    "trainer": "victim",
    "trainer_options": "its options",
}
CELL = ["dataset", "trainer", "sigma", "target_class"]

plt.rcParams.update(
    {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}
)


def load(profile, experiment):
    """The rows an experiment has so far (DataFrame); see :func:`study.results.read_rows` for its columns.

    Raises
    ------
    FileNotFoundError
        If it has none.
    """
    rows, _ = grid.rows(profile, experiment)
    if rows is None:
        raise FileNotFoundError(
            f"there are no rows yet: make study PROFILE={profile} EXPERIMENT={experiment}"
        )
    return rows


def provenance(profile, experiment):
    """One sentence for readers: profile, data, how many runs are there, and the command that makes them."""
    rows, missing = grid.rows(profile, experiment)
    there = len(grid.load(profile).experiments[experiment]) - missing
    first = rows.iloc[0]
    data = DATA_NAME.get(first["dataset"], first["dataset"]) + (
        f", {first['train_size']:,.0f} training images" if pd.notna(first["train_size"]) else ""
    )
    return Markdown(
        f"*Profile `{profile}` ({data}): {there} of {there + missing} runs are there, {rows['index'].nunique()} test points, n = {first['n0']:,} + "
        f"{rows['n'].max():,}, α = {first['alpha']:g}. `make study PROFILE={profile} EXPERIMENT={experiment}` makes them.*"
    )


def drop_table(rows, by=CELL, against="none"):
    """ACR of each cell and attack and its paired drop ``against`` clean data or a control, numbers as numbers."""
    lines = []
    for cell, clean, poisoned in pairs(rows, [*by, "attack"], against):
        lines.append(
            cell
            | {"ACR clean": acr(clean), "ACR poisoned": acr(poisoned)}
            | paired_drop(clean, poisoned)._asdict()
            | {
                "seeds": clean["seed"].nunique(),
                "points": clean["index"].nunique(),
                "n": clean["n"].max(),
            }
        )
    return pd.DataFrame(lines)


def percent(cell):
    """A drop with its 95 % interval, as text."""
    return "{} % [{}, {}]".format(*(round(100 * cell[name]) for name in ("drop", "low", "high")))


def headline(rows, attack="first_order", against="none"):
    """The numbers that prose names, of one cell and one attack, as text."""
    compared = rows[rows["attack"].isin([attack, against])]
    (cell,) = drop_table(compared, against=against).to_dict("records")
    percent = {
        name: f"{round(100 * cell[name])}"
        for name in ("drop", "low_seeds", "high_seeds", "low", "high")
    }
    errors = {name: f"{100 * cell[name]:.1f}" for name in ("se_seeds", "se_points")}
    acrs = {"acr_clean": f"{cell['ACR clean']:.2f}", "acr_poisoned": f"{cell['ACR poisoned']:.2f}"}
    plain = {name: str(cell[name]) for name in ("seeds", "points", "target_class")}
    settings = rows[rows["attack"] == attack].iloc[0]
    numbers = {name: f"{settings[name]:g}" for name in ("sigma", "eps_linf", "epochs", "alpha")}
    return percent | errors | acrs | plain | numbers | {"n": f"{cell['n']:,}"}


def show_drops(table, columns=("trainer", "sigma", "attack")):
    """A table for readers: the cells' names, ACRs, and the drop in per cent with both 95 % intervals."""

    def interval(low, high):
        return [f"[{round(100 * a)}, {round(100 * b)}]" for a, b in zip(table[low], table[high])]

    named = {column_name(name): named_values(table[name]) for name in columns}
    shown = pd.DataFrame(
        named
        | {
            "clean": table["ACR clean"].map("{:.3f}".format),
            "poisoned": table["ACR poisoned"].map("{:.3f}".format),
            "drop, %": [f"{round(100 * drop)}" for drop in table["drop"]],
            "95 %, victims": interval("low_seeds", "high_seeds"),
            "95 %, and points": interval("low", "high"),
            "seeds": table["seeds"],
        }
    )
    return shown.style.hide(axis="index")


def column_name(name):
    return COLUMN_NAME.get(name, name.replace("_", " "))


def named_values(values):
    """A column's values as readers know them."""
    names = {
        "attack": attack_name,
        "trainer": TRAINER_NAME.get,
        "crafting_trainer": TRAINER_NAME.get,
    }
    return values.map(
        names.get(
            values.name, lambda value: f"{value:g}" if isinstance(value, float) else str(value)
        )
    )


def verdict(profile, experiment, table, threshold, side="above"):
    """A sentence counted from the cells of an experiment that answer its question: in how many the estimate and the whole interval lie on a side.

    Of a single cell, the drop itself.
    """
    rows, missing = grid.rows(profile, experiment)
    left = (
        f"; {missing} of {len(grid.load(profile).experiments[experiment])} runs are still to be made"
        if missing
        else ""
    )
    if not len(table):
        return f"not known yet, as only the cell to compare with has been run{left}"
    if len(table) == 1:
        return f"the drop of the ACR is {percent(table.iloc[0])}{left}"
    if side == "below":
        right, whole = table["drop"] < threshold, table["high"] < threshold
        return f"the drop of the ACR lies below {100 * threshold:.0f} % in {right.sum()} of {len(table)} cells, with its whole interval in {whole.sum()}{left}"
    least, most = (round(100 * value) for value in (table["drop"].min(), table["drop"].max()))
    text = f"the ACR falls in {(table['low'] > 0).sum()} of {len(table)} cells, interval and all; the drops run from {least} to {most} %"
    if threshold:
        text += f", {(table['drop'] > threshold).sum()} of them above {100 * threshold:.0f} %, and {(table['low'] > threshold).sum()} with the whole interval"
    return text + left


def drop_figure(table, label, colour="trainer", threshold=0.3):
    """The drop of every cell with its wide (thin) and its victims-only (thick) 95 % interval.

    ``label`` names the columns that name a line; ``colour`` the column of trainers that gives it its colour.
    """
    height = 1.1 + 0.34 * len(table)
    figure, axis = plt.subplots(figsize=(6, height))
    names = [", ".join(parts) for parts in zip(*(named_values(table[column]) for column in label))]
    for y, (_, cell) in enumerate(table.iterrows()):
        line = {"color": TRAINER_COLOUR[cell[colour]]}
        axis.plot(100 * cell[["low", "high"]].astype(float), [y, y], lw=1, **line)
        axis.plot(
            100 * cell[["low_seeds", "high_seeds"]].astype(float), [y, y], lw=4, alpha=0.5, **line
        )
        axis.plot(100 * cell["drop"], y, "o", ms=5, **line)
    axis.axvline(0, color="0.8", lw=1, zorder=0)
    if threshold:
        axis.axvline(100 * threshold, color="0.5", lw=1, ls=":", zorder=0)
    axis.set_yticks(range(len(table)), names)
    axis.set(
        xlabel="drop of the ACR, % (95 % intervals: thick over victims,\nthin over victims and test points)",
        ylim=(len(table) - 0.5, -0.5),
    )
    figure.text(
        0.01, 1 - 0.05 / height, ", ".join(map(column_name, label)), va="top", color="0.4"
    )  # the names' headline
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.2 / height))
    return figure


def beyond_table(rows):
    """What the ACR hides, clean and poisoned: certified accuracy at one sigma, share of points at the cap of n, and abstentions.

    The first two with the bootstrap interval of their fall, victim seeds and test points resampled together.
    """
    rows = rows.assign(far=1.0 * (rows["radius"] >= rows["sigma"]), cap=1.0 * point_at_cap(rows))
    lines = []
    for cell, clean, poisoned in pairs(rows, ["trainer", "sigma", "attack"]):
        line = {("victim", ""): TRAINER_NAME[cell["trainer"]], ("σ", ""): f"{cell['sigma']:g}"}
        for name, column in (("radius ≥ σ, %", "far"), ("at the cap, %", "cap")):
            fall = paired_bootstrap(
                clean, poisoned, lambda a, b: a.mean() - b.mean(), column, resamples=1000
            )
            line |= {
                (name, side): f"{100 * table[column].mean():.0f}"
                for side, table in (("clean", clean), ("poisoned", poisoned))
            }
            line[name, "fall"] = (
                f"{100 * fall.value:.0f} [{100 * fall.low:.0f}, {100 * fall.high:.0f}]"
            )
        for side, table in (("clean", clean), ("poisoned", poisoned)):
            line["abstains, %", side] = (
                f"{'≥ ' if (table['n'] == 0).any() else ''}{100 * abstention(table):.1f}"
            )
        lines.append(line)
    return pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(lines[0]))


def sweep_figure(table, x, label):
    """The drop against a swept parameter, one line style an attack, with the wide 95 % intervals."""
    figure, axis = plt.subplots(figsize=(6, 3.4))
    for attack, line in table.sort_values(x).groupby("attack", sort=False):
        style = {
            "color": TRAINER_COLOUR[line["trainer"].iloc[0]],
            "ls": ATTACK_STYLE.get(attack, ":"),
            "label": attack_name(attack),
        }
        ends = 100 * np.array([line["drop"] - line["low"], line["high"] - line["drop"]])
        axis.errorbar(
            line[x],
            100 * line["drop"],
            ends,
            marker="o",
            ms=4,
            lw=1.5,
            elinewidth=1,
            capsize=3,
            **style,
        )
    axis.axhline(0, color="0.8", lw=1, zorder=0)
    axis.set(xlabel=label, ylabel="drop of the ACR, %\n(95 % over victims and points)")
    axis.legend(frameon=False)
    figure.tight_layout()
    return figure


def shortcut_figure(rows, trainer="gaussian"):
    """Share of noisy votes for the target class against the pattern's strength, for both kinds of images and victims, with 95 % bands over victims."""
    figure, axis = plt.subplots(figsize=(6, 3.4))
    for (victim, images), line in rows.groupby(["victim", "images"]):
        table = line.pivot(index="seed", columns="strength", values="share")
        mean, low, high = mean_interval(table)
        style = {
            "ls": "-" if victim == "clean" else "--",
            "marker": "o" if images == "target" else "s",
            "color": TRAINER_COLOUR[trainer],
        }
        axis.plot(
            table.columns,
            100 * mean,
            ms=4,
            label=f"images of the {'class' if images == 'target' else 'others'}, {victim} victims",
            **style,
        )
        axis.fill_between(
            table.columns,
            100 * low.clip(0),
            100 * high.clip(max=1),
            color=TRAINER_COLOUR[trainer],
            alpha=0.2,
            lw=0,
        )
    axis.set(
        xlabel="strength of the pattern (1: as in the poison)",
        ylabel="noisy votes\nfor the target class, %",
        ylim=(0, 102),
    )
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(0, 0.44))
    figure.tight_layout()
    return figure


def pattern_figure(patterns, eps):
    """Mean changes of poisons side by side; ``patterns`` maps a name to an array (H, W), ``eps`` is the end of the scale."""
    figure, axes = plt.subplots(
        1, len(patterns), figsize=(3 * len(patterns) + 1, 3), layout="constrained"
    )
    for axis, (name, pattern) in zip(axes, patterns.items()):
        image = axis.imshow(pattern, cmap="PuOr", vmin=-eps, vmax=eps)
        axis.set_title(name, fontsize=11)
        axis.set_axis_off()
    figure.colorbar(image, ax=axes, label="mean change (pixel units)", shrink=0.8)
    return figure


def accuracy_table(rows):
    """Accuracy of the target class without noise, clean and poisoned, in per cent, and its fall in points, for each victim trainer."""
    lines = []
    for cell, clean, poisoned in pairs(rows, ["trainer", "attack"]):
        both = [100 * side.groupby("seed")["accuracy_target"].first() for side in (clean, poisoned)]
        fall, low, high = mean_interval(both[0] - both[1])
        values = {
            name: f"{side.mean():.1f} ± {side.std():.1f}"
            for name, side in zip(("clean", "poisoned"), both)
        }
        lines.append(
            {"victim": TRAINER_NAME[cell["trainer"]]}
            | values
            | {"fall": f"{fall:.1f} [{low:.1f}, {high:.1f}]", "seeds": len(both[0])}
        )
    return pd.DataFrame(lines)


def verdicts(lines, source=""):
    """How many claims, of a source, have each verdict (dict), each claim counted once, by the last profile that has run it."""
    last = {}
    for line in (line for line in lines if line["source"].startswith(source)):
        if line["cells"] or line["claim"] not in last:
            last[line["claim"]] = line["verdict"]
    return {
        verdict: list(last.values()).count(verdict)
        for verdict in ("reproduced", "partly", "not reproduced", "not run")
    }


def show_ledger(lines):
    """The ledger of claims, a line a claim and profile; of a claim that no profile has run, one line."""
    run, shown = {line["claim"] for line in lines if line["cells"]}, {}
    for line in lines:
        cells, verdict = line["cells"], f"<b>{line['verdict']}</b>"
        if cells:
            seeds = "/".join(sorted({str(c["seeds"]) for c in cells}))
            verdict += f" ({line['profile']}, {len(cells)} of {len(cells) + line['missing_cells']} cells, {seeds} seeds)"
        elif line["claim"] in run:
            continue
        numbers = [
            f"{c['cell'].replace('_', ' ')}: {decimals(c['estimate'])} [{decimals(c['low'])}, {decimals(c['high'])}]"
            for c in cells
        ]
        shown[line["claim"], line["profile"] if cells else ""] = {
            "claim, source and rule": f"<b>{line['claim']}</b> <i>{line['source']}</i><br>Rule: {line['rule']}.",
            "verdict, and cells with their 95 % intervals": "<br>".join([verdict, *numbers]),
        }
    return pd.DataFrame(shown.values()).style.hide(axis="index")


def claim(name):
    """A claim with its rule, from ``data/claims.yaml``."""
    (found,) = [entry for entry in yaml.safe_load(CLAIMS.read_text()) if entry["id"] == name]
    return found


def show_published(rows, *more):
    """The published ACR of each trainer and noise level, and how far from it clean victims are; ``more`` columns set victims apart."""
    options = claim("fidelity")["options"]
    table = [
        {
            "victim": TRAINER_NAME[trainer],
            "σ": sigma,
            **dict(zip(map(column_name, more), others)),
            "published ACR": f"{options['published'][f'{trainer} {sigma}']:.3f}",
            "off by, %": f"{100 * cell.estimate:.1f}",
            "95 %, victims": f"[{100 * cell.low:.1f}, {100 * cell.high:.1f}]",
            "seeds": cell.seeds,
        }
        for cell in published(rows, ["trainer", "sigma", *more], **options)
        for trainer, sigma, *others in [cell.cell.split(", ")]
    ]
    return pd.DataFrame(table).style.hide(axis="index")


def costs(profile):
    """Seconds of every experiment's runs from their manifests, and what its missing runs will take (DataFrame)."""
    plan, counted, lines = grid.load(profile), set(), []
    paths = {run: ROOT / parameters["rows_file"] for run, parameters in plan.victims.items()}
    manifests = {
        run: json.loads(path.with_suffix(".json").read_text())
        for run, path in paths.items()
        if path.exists()
    }
    trainer = {run: parameters["trainer"] for run, parameters in plan.victims.items()}
    mean = (
        pd.Series({run: made["seconds"] for run, made in manifests.items()}).groupby(trainer).mean()
    )
    for experiment, runs in plan.experiments.items():
        new = [run for run in runs if run not in counted and run in plan.victims]
        counted.update(new)
        made = [manifests[run] for run in new if run in manifests]
        victims = sum(one["seconds"] for one in made)
        poisons = {
            plan.victims[run]["poison_file"]: manifests[run].get("poison_seconds", 0)
            for run in new
            if run in manifests
        }
        poisons = {
            name: seconds for name, seconds in poisons.items() if name and name not in counted
        }
        counted.update(poisons)
        missing = sum(mean.get(trainer[run], np.nan) for run in new if run not in manifests)
        lines.append(
            {
                "experiment": experiment,
                "runs": len(made),
                "of": len(new),
                "poisons, min": sum(poisons.values()) / 60,
                "victims, min": victims / 60,
                "all victims, min": (victims + missing) / 60,
                "on": ", ".join(sorted({one["device"] for one in made})),
            }
        )
    return pd.DataFrame(lines)


def attack_name(attack):
    return ATTACK_NAME.get(attack, f"control: {attack.replace('_', ' ')}")


def curves(axis, rows, radii, **line):
    """Mean certified accuracy over victim seeds, with a pointwise 95 % t band over the seeds."""
    values = [
        certified_accuracy(table, radii) for _, table in rows.groupby("seed")
    ]  # (seeds, radii)
    mean, low, high = mean_interval(values)
    (drawn,) = axis.plot(radii, mean, **line)
    axis.fill_between(
        radii, low.clip(0), high.clip(max=1), color=drawn.get_color(), alpha=0.2, lw=0
    )


def probit_figure(rows):
    """Distribution of p_A on the probit scale, one panel a trainer: the radius is sigma times this number where the guess is right."""
    from seaborn import ecdfplot  # here, as only one page waits for its import

    trainers = [name for name in TRAINER_COLOUR if name in set(rows["trainer"])]
    figure, axes = plt.subplots(
        len(trainers), 1, figsize=(6, 1.9 * len(trainers) + 0.5), squeeze=False, sharex=True
    )
    for axis, trainer in zip(axes[:, 0], trainers):
        table = rows[rows["trainer"] == trainer]
        right = table["guess"] == table["label"]
        for attack, side in table.assign(z=np.where(right, probit_p(table), -0.1)).groupby(
            "attack", sort=False
        ):
            style = {
                "ls": ATTACK_STYLE.get(attack, ":"),
                "label": f"{TRAINER_NAME[trainer]}, {attack_name(attack)}",
            }
            ecdfplot(side["z"], ax=axis, color=TRAINER_COLOUR[trainer], **style)
        axis.set(ylabel="share of points\nat or below", ylim=(0, 1), xlim=(0, None))
        axis.legend(frameon=False, fontsize=9)
    axes[-1, 0].set_xlabel("estimated $p_A$, probit scale (standard deviations)")
    figure.tight_layout()
    return figure


def curve_figure(rows):
    """Certified accuracy against radius, one panel a sigma, one colour a trainer, one line style an attack."""
    sigmas = sorted(rows["sigma"].unique())
    figure, axes = plt.subplots(
        1, len(sigmas), figsize=(max(6, 4 * len(sigmas)), 3.6), squeeze=False, sharey=True
    )
    for axis, sigma in zip(axes[0], sigmas):
        radii = np.linspace(0, 3.0 * sigma, 121)
        for (trainer, attack), table in rows[rows["sigma"] == sigma].groupby(["trainer", "attack"]):
            name = f"{TRAINER_NAME[trainer]}, {attack_name(attack)}"
            curves(
                axis,
                table,
                radii,
                color=TRAINER_COLOUR[trainer],
                ls=ATTACK_STYLE.get(attack, ":"),
                label=name,
            )
        axis.set(xlabel="radius (pixel units, L2)", ylim=(0, 1), xlim=(0, radii[-1]))
        if len(sigmas) > 1:
            axis.set_title(f"σ = {sigma:g}", loc="left")
    axes[0, 0].set_ylabel("certified accuracy\nof the target class")
    axes[0, -1].legend(frameon=False)
    figure.tight_layout()
    return figure
