"""Which experiments a profile holds: its YAML expanded into the parameters of every notebook run.

A profile has defaults for victims and poisons (``victim``, ``poison``), what differs for one trainer
(``trainers``), and ``experiments``. In an experiment a list is an axis: the product of all axes is run. A poison takes
its trainer, sigma, class and data from the victim unless the experiment says otherwise; ``attack: none`` is clean data.
"""

import hashlib
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import yaml

from pacd.settings import PoisonSettings, SettingsError, VictimSettings

SHARED = ("dataset", "data_root", "split_seed", "train_size", "trainer", "sigma", "architecture", "target_class", "device", "threads")


class Grid(NamedTuple):
    """``poisons`` and ``victims`` map a run's name to its parameters; ``experiments`` maps a name to its victims."""

    profile: str
    poisons: dict
    victims: dict
    experiments: dict


def load(profile):
    """Read and check ``profiles/<profile>.yaml``; every run is validated before any of them starts."""
    path = Path(__file__).with_name(f"{profile}.yaml")
    if not path.exists():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise SettingsError(f"PROFILE must be one of {', '.join(known)}, not {profile!r}.")
    content = yaml.safe_load(path.read_text())
    grid = Grid(profile, {}, {}, {})
    for name, experiment in content["experiments"].items():
        grid.experiments[name] = []
        for victim, poison in itertools.product(_product(experiment.get("victim", {})), _product(experiment.get("poison", {}))):
            run = _add(grid, content, victim, poison)
            if run not in grid.experiments[name]:
                grid.experiments[name].append(run)
    return grid


def _product(axes):
    """Every combination of the list-valued entries."""
    lists = [[(key, v) for v in (value if isinstance(value, list) else [value])] for key, value in axes.items()]
    return [dict(choice) for choice in itertools.product(*lists)]


def _add(grid, content, victim, poison):
    victim = _with_defaults(content, "victim", victim)
    crafted = _with_defaults(content, "poison", {**{k: victim[k] for k in SHARED if k in victim}, **poison})
    label = "clean" if crafted["attack"] == "none" else crafted["attack"]
    if label != "clean":
        name = _name(crafted, label, crafted["seed"])
        victim["poison_file"] = f"data/poison/{grid.profile}/{name}.npz"
        grid.poisons[name] = _checked(PoisonSettings, {**crafted, "poison_file": victim["poison_file"]}, name)
    victim["seeds"] = [victim.pop("seed", 0)]
    name = _name(victim, label, victim["seeds"][0])
    grid.victims[name] = _checked(VictimSettings, {**victim, "rows_file": f"data/results/{grid.profile}/{name}.csv"}, name)
    return name


def _with_defaults(content, kind, chosen):
    """Profile defaults, then what differs for this trainer, then what the experiment says."""
    base = {**NOTEBOOK_DEFAULTS[kind], **content.get("data", {}), **content.get(kind, {})}
    trainer = chosen.get("trainer", base["trainer"])
    return {**base, **content.get("trainers", {}).get(trainer, {}).get(kind, {}), **chosen}


def _checked(kind, parameters, name):
    try:
        return kind.check(parameters).model_dump()
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from None


def _name(parameters, label, seed):
    """A readable start, and a hash of every parameter, so that no two runs share a file."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join(str(part) for part in (Path(parameters["dataset"]).stem, parameters["trainer"], parameters["sigma"], label, seed, digest))


def _notebook_defaults(kind):
    """The parameters cell of a notebook, as papermill sees it."""
    notebook = json.loads((Path(__file__).parents[1] / "notebooks" / f"{kind}.ipynb").read_text())
    (source,) = ["".join(c["source"]) for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    values = {}
    exec(source, values)  # noqa: S102 -- our own notebook; annotations are data too
    return {k: v for k, v in values.items() if not k.startswith("__")}


NOTEBOOK_DEFAULTS = {kind: _notebook_defaults(kind) for kind in ("poison", "victim")}
