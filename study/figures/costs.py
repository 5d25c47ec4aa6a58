"""What the attack's gradients cost and buy."""

import matplotlib.pyplot as plt
import pandas as pd

from study.figures.data import labelled, with_data
from study.figures.drops import drop_bars, in_percent
from study.intervals import mean_interval
from study.style import BLACK, BLUE, DATA_NAME, GREEN, SKY, VERMILION

SETTING_NAME = {"first_order": "ours", "approxgrad": "authors' setting"}
SETTING_COLOUR = {"first_order": BLUE, "approxgrad": VERMILION}
SOLVER_COLOUR = {"identity": BLACK, "cg": BLUE, "minres": SKY, "neumann": GREEN, "adam": VERMILION}


def cost_figure(benchmarks, threshold):
    """Drop of the ACR against gradient evaluations, a panel for each run of the benchmark.

    Parameters
    ----------
    benchmarks : list of dict
        Tables of snapshots and controls, and the dataset, of each run.
    threshold : float
        The drop that is looked for, a dotted line.
    """
    size = (6, 3.5 * len(benchmarks))
    shared = {"sharex": True, "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(len(benchmarks), 1, figsize=size, **shared)
    drawn = []
    for axis, found in zip(axes[:, 0], benchmarks):
        _draw_snapshots(axis, found["snapshot"])
        best = found["control"]["drop"].max()
        axis.axhline(100 * threshold, color="0.5", ls=":", lw=1, zorder=0)
        axis.axhline(100 * best, color="0.5", ls="--", lw=1, zorder=0)
        axis.set_title(DATA_NAME.get(found["parameters"]["dataset"]), loc="left")
        control = pd.DataFrame([{"case": "best control", "drop_percent": 100 * best}])
        lines = [in_percent(found["snapshot"], ["case", "evaluations"]), control]
        drawn.append(labelled(pd.concat(lines), dataset=found["parameters"]["dataset"]))
    axes[0, 0].legend(frameon=False)
    axes[-1, 0].set_xlabel("gradient evaluations")
    figure.tight_layout()
    return with_data(figure, pd.concat(drawn))


def _draw_snapshots(axis, snapshots):
    bars = {"fmt": "o-", "ms": 4, "lw": 1.5, "elinewidth": 0.8, "capsize": 2}
    for case, line in snapshots.groupby("case", sort=False):
        style = {"color": SETTING_COLOUR[case], "label": SETTING_NAME[case]}
        axis.errorbar(line["evaluations"], 100 * line["drop"], drop_bars(line), **bars, **style)
    axis.set(xscale="log", ylim=(-5, 70))
    axis.set_ylabel("drop of the ACR, %\n(95 % over victims and points)")


def solver_figure(solvers):
    """Agreement of signs with a solve to convergence against cost, a panel for each damping."""
    dampings = sorted(solvers["damping"].unique())
    options = {"figsize": (6, 2.4 * len(dampings) + 1), "sharex": True, "sharey": True}
    figure, axes = plt.subplots(len(dampings), 1, **options)
    drawn = []
    for axis, damping in zip(axes, dampings):
        drawn += _draw_solvers(axis, solvers[solvers["damping"] == damping], damping)
    axes[-1].set_xlabel("gradient evaluations")
    figure.supylabel("signs that agree, %")
    lines = axes[0].get_legend_handles_labels()
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.02), "ncols": 2}
    figure.legend(*lines, frameon=False, **below)
    figure.tight_layout()
    return with_data(figure, pd.DataFrame(drawn))


def _draw_solvers(axis, solvers, damping):
    drawn = []
    for case, group in solvers.groupby("case", sort=False):
        mean, low, high = mean_interval(100 * group["signs"])
        style = {
            "fmt": "s" if "redrawn" in case else "o",
            "ms": 7 if case.endswith("20") else 4,
            "color": SOLVER_COLOUR[case.split()[0]],
            "label": case,
        }
        bars = [[mean - low], [high - mean]]
        cost = group["evaluations"].mean()
        axis.errorbar(cost, mean, bars, capsize=2, lw=1, **style)
        line = {"damping": damping, "case": case, "evaluations": cost}
        drawn.append({**line, "signs_percent": mean, "low_percent": low, "high_percent": high})
    axis.set(xscale="log", ylim=(45, 101))
    axis.set_xticks([1000, 3000, 10000], ["1,000", "3,000", "10,000"])
    axis.minorticks_off()
    leftover = solvers["reference_residual"].max()
    title = f"damping {damping:g} (reference's residual ≤ {leftover:.1g})"
    axis.set_title(title, loc="left")
    return drawn
