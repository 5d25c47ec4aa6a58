"""Rows and drops of a profile for pandas: one tidy table each, and what its columns mean."""

from pathlib import Path

import pandas as pd

from study import grid
from study.drops import CELL, drop_table, load
from study.results import replacing

PIXEL = "pixel units, L2"
SHARE = "share"
COUNT = "count"
NAME = ""  # a name, a number that names something, or true and false

# Every column of :func:`rows`: what it means, and its unit.
COLUMNS = {
    "run": ("name of the run that made the row", NAME),
    "experiments": ("experiments of the profile that read the run", NAME),
    "seed": ("seed of the victim", NAME),
    "index": ("which image of the test set", NAME),
    "label": ("its class", NAME),
    "guess": ("class that most of the n0 draws predict", NAME),
    "n0": ("noise draws for the guess", COUNT),
    "n": ("noise draws for the certificate; 0: the guess was wrong and no more were made", COUNT),
    **{f"count_{c}": (f"how many of the n draws predict class {c}", COUNT) for c in range(10)},
    "alpha": ("failure probability of the certificate", "probability"),
    "looks": ("how often the draws were looked at; they share alpha. None: once", COUNT),
    "u": ("of the randomised bound; 1 or none: Clopper and Pearson's", "probability"),
    "p_lower": ("lower bound of the probability of the guess under noise", "probability"),
    "prediction": ("class that is certified; -1: abstains, -2: no draws were made", NAME),
    "radius": ("certified radius; 0 where the point abstains or is wrong", PIXEL),
    "empirical_radius": ("smallest radius at which an attack on the point succeeds", PIXEL),
    "noise_seed": ("seed of the noise draws", NAME),
    "precision": ("who votes: float32, int8, or mixed, both", NAME),
    "certify_batch": ("images in one forward pass; none: what is quick", COUNT),
    "stop_wrong": ("whether no further draws were made where the guess is wrong", NAME),
    "n_asked": ("noise draws that were asked for; n, unless a point was stopped", COUNT),
    "radii": ("radii that decide when a point is stopped; none: all n draws", PIXEL),
    "randomised": ("whether the bound is the randomised one", NAME),
    "points": ("how many test points were asked for; none: all of the class", COUNT),
    "empirical_steps": ("PGD steps of the attack on the smoothed classifier", COUNT),
    "accuracy_all": ("accuracy of the victim without noise, all classes", SHARE),
    "accuracy_target": ("the same on the target class", SHARE),
    "dataset": ("data set, or the path of an .npz", NAME),
    "data_root": ("folder of the data set; none: the usual one", NAME),
    "split_seed": ("seed of the split into training and validation images", NAME),
    "train_size": ("training images; none: all", COUNT),
    "target_class": ("class that is poisoned and certified", NAME),
    "trainer": ("trainer of the victim", NAME),
    "trainer_options": ("its own parameters, where they are not its defaults", NAME),
    "sigma": ("standard deviation of the noise, in training and certification", "pixel units"),
    "architecture": ("network of the victim", NAME),
    "normalisation": ("what its first layer does to pixels; none: nothing", NAME),
    "epochs": ("passes over the training images", COUNT),
    "batch": ("training images in a batch", COUNT),
    "lr": ("step size of the optimiser", NAME),
    "optimizer": ("optimiser; none: adam", NAME),
    "training_precision": ("of the products in training", NAME),
    "schedule": ("how the step size falls", NAME),
    "weight_decay": ("factor of the squared weights in the loss", NAME),
    "augmentation": ("of the training images", NAME),
    "curation": ("what a curator did to the training images", NAME),
    "eight_bit": ("whether the victim trained on the poison rounded to 8 bits", NAME),
    "device": ("device that was asked for", NAME),
    "threads": ("threads of a CPU", COUNT),
    "compiled": ("whether the network was compiled; none: where it pays", NAME),
    "rows_file": ("address of the run's rows", NAME),
    "poison_file": ("poison that the victim trained on; none: clean data", NAME),
    "train_sha256": ("hash of the images that the victim trained on", NAME),
    "data_sha256": ("hash of the clean data set, of victims that recorded it", NAME),
    "brought": ("files of brought functions, with their hashes", NAME),
    "attack": ("how the poison was made; none: clean data", NAME),
    "attack_options": ("the attack's own parameters, where they are not its defaults", NAME),
    "crafting_trainer": ("trainer that the poison was made against", NAME),
    "crafting_architecture": ("network that the poison was made on", NAME),
    "poison_seed": ("seed of the poison", NAME),
    "eps_linf": ("largest change of a pixel", "pixel units"),
    "fraction": ("poisoned share of the target class", SHARE),
    "steps": ("poison steps; of direct search the patterns it starts with", COUNT),
    "linf": ("largest change of a pixel that was made", "pixel units"),
    "l2": ("mean length of an image's change", PIXEL),
    "psnr": ("mean peak signal-to-noise ratio of the poisoned images", "dB"),
    "psnr_worst": ("its smallest value", "dB"),
    "ssim": ("mean structural similarity to the originals", "1 where equal"),
    "ssim_worst": ("its smallest value", "1 where equal"),
    "ciede2000": ("mean difference of colour", "CIEDE2000; 1 can just be seen"),
}
# Columns of :func:`drops` beside those of the cell.
DROP_COLUMNS = {
    "acr_clean": ("average certified radius of clean victims", PIXEL),
    "acr_poisoned": ("the same of poisoned victims", PIXEL),
    "drop": ("1 - acr_poisoned / acr_clean, paired by victim seed and test point", SHARE),
    "low_seeds": ("lower end of its 95 % interval over victims", SHARE),
    "high_seeds": ("upper end", SHARE),
    "low": ("lower end of its 95 % interval over victims and test points", SHARE),
    "high": ("upper end", SHARE),
    "se_seeds": ("standard error from victim seeds", SHARE),
    "se_points": ("standard error from test points", SHARE),
    "seeds": ("victims on each side", COUNT),
    "points": ("test points of each victim", COUNT),
    "n": ("noise draws for each certificate", COUNT),
}
# What sets cells of one experiment apart beside its data, trainer, sigma, class and attack.
VARIED = ("train_size", "trainer_options", "architecture", "normalisation", "epochs", "batch", "lr")
VARIED += ("schedule", "weight_decay", "training_precision", "augmentation", "curation")
VARIED += ("eight_bit", "attack_options", "optimizer", "split_seed", "noise_seed", "n0")
VARIED += ("precision", "crafting_trainer", "crafting_architecture", "poison_seed", "eps_linf")
VARIED += ("fraction",)


def rows(profile, experiment=None):
    """The rows of one experiment, or of a whole profile: a line for each victim and test point.

    Parameters
    ----------
    profile, experiment : str
        Without an experiment, every run of the profile that has rows, once.

    Returns
    -------
    pandas.DataFrame
        Columns: ``COLUMNS``.

    Raises
    ------
    SettingsError
        If there is no such profile or experiment.
    FileNotFoundError
        If it has no rows of victims yet.
    """
    table = load(profile, experiment)
    return table.assign(experiments=table["run"].map(_experiments(grid.load(profile))))


def _experiments(plan):
    """Names of the experiments that read each run."""
    found = {}
    for name, runs in plan.experiments.items():
        for run in runs:
            found.setdefault(run, []).append(name)
    return {run: ", ".join(names) for run, names in found.items()}


def drops(profile, experiment):
    """The paired drop of the ACR of each cell and attack, with its intervals.

    Parameters
    ----------
    profile, experiment : str

    Returns
    -------
    pandas.DataFrame
        The columns that name the cell (of ``COLUMNS``), then ``DROP_COLUMNS``; empty where an
        experiment has no clean victims. See :func:`study.intervals.paired_drop`.

    Raises
    ------
    SettingsError, FileNotFoundError
        As :func:`rows`.
    """
    table = rows(profile, experiment)
    varied = [name for name in VARIED if name in table and table[name].nunique() > 1]
    found = drop_table(table, [*CELL, *varied])
    return found.rename(columns={"ACR clean": "acr_clean", "ACR poisoned": "acr_poisoned"})


def columns():
    """What the columns mean (DataFrame): of :func:`rows`, then of :func:`drops`."""
    tables = {"rows": COLUMNS, "drops": DROP_COLUMNS}
    lines = [
        (table, name, *facts) for table, known in tables.items() for name, facts in known.items()
    ]
    return pd.DataFrame(lines, columns=["table", "column", "meaning", "unit"])


def write(profile, folder):
    """Write all rows of a profile as ``<profile>.csv.gz``, and ``columns.csv`` beside it.

    Parameters
    ----------
    profile : str
    folder : path

    Raises
    ------
    SettingsError, FileNotFoundError
        As :func:`rows`.
    """
    with replacing(Path(folder) / f"{profile}.csv.gz") as path:
        rows(profile).to_csv(path, index=False, compression="gzip")
    with replacing(Path(folder) / "columns.csv") as path:
        columns().to_csv(path, index=False)
