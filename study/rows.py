"""Rows read back: a run's own two files, and the kept tables of an experiment.

A run writes ``<run>.csv`` and ``<run>.json``; :mod:`study.keep` moves those of a kept profile into
``<experiment>.csv.xz`` and ``<experiment>.runs.json``. A run keeps its address, the path of its own
rows, wherever these are.
"""

import json
from functools import lru_cache
from pathlib import Path

import pandas as pd

from pacd.poison_file import manifest_path, seal

RUNS, TABLE = ".runs.json", ".csv.xz"


def read_rows(*paths):
    """The rows of several runs in one table, with what their manifests say.

    Adds the scalar parameters of the run, ``run``, ``accuracy_all`` and ``accuracy_target`` (of the
    network itself, without noise), and of its poison ``attack`` ("none" for clean data),
    ``crafting_trainer``, ``crafting_architecture``, ``poison_seed``, its own parameters, such as
    ``eps_linf``, and its distances from the originals (see :func:`study.distortion.distortion`).

    Raises
    ------
    FileNotFoundError
        If a run has no rows, or no manifest.
    ValueError
        If rows and manifest do not belong together, or were changed since they were written.
    """
    tables = [_with_facts(Path(path).stem, *load(path)) for path in paths]
    return pd.concat(tables, ignore_index=True)


def load(path):
    """The rows (DataFrame) and the manifest (dict) of one run; raises as :func:`read_rows`."""
    path, kept = Path(path), kept_with(path)
    if kept is None:
        check(path, manifest_of(path))
        return pd.read_csv(path), manifest_of(path)
    rows = _by_run(*_dated(kept))[path.stem].dropna(axis=1, how="all")
    return rows.reset_index(drop=True), manifest_of(path)


def manifest_of(path):
    """The manifest of one run (dict); FileNotFoundError without any."""
    path, kept = Path(path), kept_with(path)
    if kept is None:
        return _parsed(manifest_path(path))
    return manifests(kept)["runs"][path.stem]


def exist(path):
    """Whether a run has rows."""
    return Path(path).exists() or kept_with(path) is not None


def kept_with(path):
    """The file of manifests that holds a run, None where it has files of its own or none."""
    path = Path(path)
    return None if path.exists() else table_with(path)


def table_with(path):
    """The file of manifests that holds a run, whether or not it has files of its own too."""
    for runs in sorted(path.parent.glob(f"*{RUNS}")):
        if path.stem in manifests(runs)["runs"]:
            return runs
    return None


def _dated(path):
    """A path, and when it was written: a page asks for the same file again and again."""
    return path, path.stat().st_mtime_ns


def manifests(kept):
    """What a file of manifests holds: ``runs``, and the hash that binds it to its table (dict)."""
    return _manifests(*_dated(kept))


@lru_cache
def _manifests(path, written):
    content = _parsed(path)
    if not {"runs", "sha256"} <= set(content):
        raise ValueError(f"{path} must hold runs and sha256, as it was written.")
    return content


def _parsed(path):
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} must be JSON, as it was written ({error}).") from error


@lru_cache
def _by_run(path, written):
    """The rows of each run of a kept table."""
    table = table_of(path)
    check(table, _manifests(path, written))
    rows = pd.read_csv(table)
    return dict(list(rows.drop(columns="run").groupby(rows["run"])))


def table_of(runs):
    """The table beside a file of manifests."""
    return runs.with_name(runs.name.removesuffix(RUNS) + TABLE)


def check(path, facts):
    """ValueError unless rows and manifest are those that were written together."""
    if facts.get("sha256") != seal(facts, path.read_bytes()):
        raise ValueError(f"{path} and its manifest must belong together, and their hash differs.")


def _with_facts(run, rows, manifest):
    facts = {**_facts(manifest), "run": run}
    scalars = {name: of for name, of in facts.items() if not isinstance(of, (list, dict))}
    victims = {int(seed): of for seed, of in manifest["accuracy"].items()}
    for name in dict.fromkeys(name for of in victims.values() for name in of):
        of_seed = {seed: of.get(name) for seed, of in victims.items()}
        scalars[f"accuracy_{name}"] = rows["seed"].map(of_seed)
    return pd.DataFrame({**scalars, **rows}, index=rows.index)[[*{**rows, **scalars}]]


def _facts(manifest):
    """What a table says of each row of one run: of its poison, then of the run itself."""
    made, parameters = manifest["poison"], manifest["parameters"]
    poison = {"attack": "unknown" if made else "none", "trainer": "none", "architecture": "none"}
    poison |= made or {}
    # Rows from before these were parameters are of centred networks, trained by Adam in float32; a
    # network of another make, which has no trainer, scales pixels as it likes.
    scaling = "centred" if "trainer" in parameters else "unknown"
    facts = {"normalisation": scaling, "optimizer": "adam", "training_precision": "float32"}
    facts |= {**poison, **(manifest.get("distortion") or {}), **parameters}
    facts["attack_options"] = _listed(poison.get("attack_options", {}))
    facts["trainer_options"] = _listed(parameters.get("trainer_options", {}))
    facts["crafting_trainer"] = poison["trainer"]
    facts["crafting_architecture"] = poison["architecture"]
    facts["poison_seed"] = poison.get("seed")
    # What a curator did is compared on purpose.
    brought = manifest.get("brought", {}).items()
    facts["brought"] = _listed({name: of for name, of in brought if name != facts.get("curation")})
    facts["n_asked"] = parameters.get("n")
    facts["radii"] = _text_of(parameters.get("radii"))
    hashes = ("train_sha256", "data_sha256", "test_sha256")
    return facts | {name: manifest[name] for name in hashes if name in manifest}


def _text_of(radii):
    return None if radii is None else ", ".join(f"{radius:g}" for radius in radii)


def _listed(options):
    return ", ".join(f"{name} = {value}" for name, value in options.items())
