"""Rows as a complete profile would have them, made from its grid instead of networks."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from pacd.counts import bound

POINTS, DRAWS, CLASSES = 12, 10_000, 10
CLEAN = {"attack": "none", "trainer": "none", "architecture": "none", "attack_options": ""}
LOOK = {"linf": 0.1, "l2": 2.0, "psnr": 21.0, "psnr_worst": 20.0, "ssim": 0.8, "ssim_worst": 0.7}


def rows_of_every_run(plan, experiment, seeds=None):
    """A table like that of :func:`study.rows.read_rows`; poisoned victims win fewer votes.

    Of victims with some ``seeds`` only, as fewer are quicker made.
    """
    runs = [run for run in plan.experiments[experiment] if run in plan.victims]
    if seeds is not None:
        runs = [run for run in runs if plan.victims[run]["seeds"][0] in seeds]
    return pd.concat([_rows(plan, run) for run in runs], ignore_index=True)


def _rows(plan, run):
    victim = plan.victims[run]
    poison = CLEAN
    if victim["poison_file"]:
        poison = {**plan.poisons[Path(victim["poison_file"]).stem], **LOOK}
    said = {f"crafting_{name}": poison[name] for name in ("trainer", "architecture")}
    facts = {**poison, **victim, **said, "run": run, "poison_seed": poison.get("seed")}
    facts |= {"seed": victim["seeds"][0], "accuracy_target": 0.9, "accuracy_all": 0.95}
    facts |= {"n0": 100, "n_asked": victim["n"], "alpha": 0.001, "looks": 1, "u": 1.0}
    facts |= {"train_sha256": "t", "data_sha256": "d", "brought": "", "noise_seed": 0}
    rng = np.random.default_rng(facts["seed"])
    strength = 1.5 if poison is CLEAN else 0.7
    won = rng.binomial(DRAWS, norm.cdf(rng.normal(strength, 0.5, POINTS)))
    target = victim["target_class"]
    counts = np.zeros((POINTS, CLASSES), int)
    counts[:, target], counts[:, target - 1] = won, DRAWS - won
    rows = pd.DataFrame(counts, columns=[f"count_{c}" for c in range(CLASSES)])
    rows = rows.assign(index=range(POINTS), label=target, guess=target, n=DRAWS)
    if victim["empirical_steps"]:
        rows["empirical_radius"] = rows.index % 4 / 4
    scalars = {k: v for k, v in facts.items() if k not in rows and not isinstance(v, (list, dict))}
    return bound(rows.assign(**scalars, **_text(facts)))


def _text(facts):
    listed = {name: of for name, of in facts.items() if isinstance(of, dict)}
    return {name: ", ".join(f"{k} = {v}" for k, v in of.items()) for name, of in listed.items()}
