"""Which experiments a profile holds: its YAML expanded into the parameters of every notebook run.

A profile has defaults for victims and poisons (``victim``, ``poison``), what differs for one trainer
(``trainers``), and ``experiments``. In an experiment a list is an axis: the product of all axes is run; an experiment may
also be a list of such blocks. A poison takes its trainer, sigma, class and data from the victim unless the experiment says
otherwise; ``attack: none`` is clean data. In the experiment ``curation`` the detectors too look at each poison. With
``kept: true`` the rows are evidence that is committed: a file that is there is never made again, whatever changes in the
code, until somebody deletes it (its manifest names the commit that made it).
"""

import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import NamedTuple

import yaml

from pacd.controls import CONTROLS
from pacd.losses import TRAINERS
from study.parameters import SettingsError
from study.results import ROOT, read_rows
from study.settings import CuratorSettings, PoisonSettings, VictimSettings

PROFILES = ROOT / "profiles"
MADE = {"seeds", "rows_file", "poison_file"}  # by the grid
SHARED = (
    "dataset",
    "data_root",
    "split_seed",
    "train_size",
    "trainer",
    "sigma",
    "architecture",
    "normalisation",
    "target_class",
    "device",
    "threads",
)


class Grid(NamedTuple):
    """``poisons``, ``victims`` and ``curators`` map a run's name to its parameters; ``experiments`` maps a name to its runs of the last two."""

    profile: str
    poisons: dict
    victims: dict
    curators: dict
    experiments: dict
    kept: bool = False

    @property
    def runs(self):
        """Every run that makes rows."""
        return self.victims | self.curators

    def missing(self, experiment=None):
        """Runs of one experiment, or of all in their order, whose rows are still to be made (all, unless ``kept``)."""
        if experiment not in (None, *self.experiments):
            raise SettingsError(
                f"EXPERIMENT must be one of {', '.join(self.experiments)}, not {experiment!r}."
            )
        chosen = self.experiments if experiment is None else [experiment]
        runs = dict.fromkeys(run for name in chosen for run in self.experiments[name])
        return [
            run for run in runs if not (self.kept and (ROOT / self.runs[run]["rows_file"]).exists())
        ]


def load(profile):
    """Read and check ``profiles/<profile>.yaml``; every run is validated before any of them starts, but for the values of options: they are when it starts."""
    path = PROFILES / f"{profile}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise SettingsError(f"PROFILE must be one of {', '.join(known)}, not {profile!r}.")
    content = _read(path)
    grid = Grid(profile, {}, {}, {}, {}, content.get("kept", False))
    for name, blocks in content.get("experiments", {}).items():
        runs = {}
        for block in _blocks(blocks):
            axes = [
                _product(_axes(content.get(kind, {})) | block.get(kind, {}))
                for kind in ("victim", "poison")
            ]
            for victim, poison in itertools.product(*axes):
                run = _add(grid, content, victim, poison)
                runs[run] = True
                if name == "curation" and grid.victims[run]["poison_file"]:
                    runs[_watch(grid, grid.victims[run])] = True
        grid.experiments[name] = list(runs)
    return grid


def check_config(config):
    """Refuse a misspelt name, or another experiment than the one that was meant would run."""
    _only(config, ("profile", "experiment"), "--config")


def rows(profile, experiment):
    """All rows that an experiment has so far (DataFrame; see :func:`study.results.read_rows`), and how many runs are missing.

    A kept profile is computed in pieces, so some of its rows may not be there yet; None where there are no rows at all.
    """
    plan = load(profile)
    paths = [
        ROOT / plan.victims[run]["rows_file"]
        for run in plan.experiments[experiment]
        if run in plan.victims
    ]
    there = [path for path in paths if path.exists()]
    return (read_rows(*there) if there else None), len(paths) - len(there)


class _OnlyOnce(yaml.SafeLoader):
    """YAML, but of two entries of one name none is passed over."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(
                    f"{name!r} is twice in one place, which begins in line {node.start_mark.line + 1}"
                )
        return node


def _read(path):
    """A profile's content. Parameters in it are checked with the runs that they make, its blocks here."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _OnlyOnce)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} must be YAML: {' '.join(str(error).split())}.") from None
    _only(content, ("kept", "data", "victim", "poison", "trainers", "experiments"), path.name)
    if not isinstance(content.get("kept", False), bool):
        raise SettingsError(f"{path.name}: kept must be true or false, not {content['kept']!r}.")
    _only(content.get("data", {}), None, f"{path.name}: data")
    _check_parameters(content, path.name)
    trainers, experiments = (content.get(part, {}) for part in ("trainers", "experiments"))
    _only(trainers, TRAINERS, f"{path.name}: trainers")
    for name, block in trainers.items():
        _check_block(block, f"{path.name}: trainers: {name}")
    _only(experiments, None, f"{path.name}: experiments")
    for name, blocks in experiments.items():
        for block in _blocks(blocks):
            _check_block(block, f"{path.name}: experiments: {name}")
    return content


def _blocks(experiment):
    """An experiment is one block or a list of them; an empty list is refused as a block that is missing."""
    return (experiment or [None]) if isinstance(experiment, list) else [experiment]


def _check_block(block, where):
    _only(block, ("victim", "poison"), where)
    _check_parameters(block, where)


def _check_parameters(content, where):
    for kind in ("victim", "poison"):
        _only(content.get(kind, {}), None, f"{where}: {kind}")
        if [] in content.get(kind, {}).values():
            raise SettingsError(
                f"{where}: {kind} must have one value or more for each name, not []."
            )


def _only(content, known, where):
    """No name but the known ones, or a misspelt block would be passed over and its defaults run in its place; None: any name."""
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise SettingsError(
            f"{where} must hold {', '.join(known or ['names with their values'])}, not {content!r}."
        )
    for name in content:
        if known and name not in known:
            raise SettingsError(f"{where} may hold {', '.join(known)}, not {name!r}.")


def _axes(defaults):
    """The list-valued defaults of a profile are axes of every experiment that does not set them."""
    return {name: value for name, value in defaults.items() if isinstance(value, list)}


def _product(axes):
    """Every combination of the list-valued entries."""
    lists = [
        [(key, v) for v in (value if isinstance(value, list) else [value])]
        for key, value in axes.items()
    ]
    return [dict(choice) for choice in itertools.product(*lists)]


def _add(grid, content, victim, poison):
    for name in MADE & {*victim, *poison}:
        raise SettingsError(
            f"a profile may not hold {name!r}: a run's files are named by its parameters, and its victim by `seed`."
        )
    victim = _with_defaults(content, "victim", victim)
    crafted = _with_defaults(
        content, "poison", {**{k: victim[k] for k in SHARED if k in victim}, **poison}
    )
    victim["seeds"] = [victim.pop("seed", 0)]
    label = "clean" if crafted["attack"] == "none" else crafted["attack"]
    where = "{}.yaml: {}, {}, sigma {}, {}, seed {}".format(
        grid.profile,
        *(victim[name] for name in ("dataset", "trainer", "sigma")),
        label,
        *victim["seeds"],
    )
    victim_settings = _checked(VictimSettings, victim, where)
    poison_settings = _checked(
        PoisonSettings, crafted if label != "clean" else {**crafted, "attack": CONTROLS[0]}, where
    )
    for name in ("dataset", "data_root", "split_seed", "train_size", "target_class"):
        if crafted[name] != victim[name]:
            raise SettingsError(
                f"{where}: {name} must be the same for poison and victim, not {crafted[name]!r} and {victim[name]!r}."
            )
    if label != "clean":
        name = _name("poison", crafted, label, crafted["seed"])
        victim["poison_file"] = f"data/poison/{grid.profile}/{name}.npz"
        grid.poisons[name] = {**poison_settings, "poison_file": victim["poison_file"]}
    name = _name("victim", victim, label, victim["seeds"][0])
    grid.victims[name] = {
        **victim_settings,
        "poison_file": victim["poison_file"],
        "rows_file": f"data/results/{grid.profile}/{name}.csv",
    }
    return name


def _watch(grid, victim):
    """Let the detectors look at the poison of a victim."""
    shared = {name: victim[name] for name in (*SHARED, "poison_file")} | {
        "trainer": NOTEBOOK_DEFAULTS["curator"]["trainer"]
    }
    name = "curator-" + Path(victim["poison_file"]).stem
    rows = {"rows_file": f"data/results/{grid.profile}/{name}.csv"}
    grid.curators[name] = _checked(
        CuratorSettings, {**NOTEBOOK_DEFAULTS["curator"], **shared, **rows}, name
    )
    return name


def _with_defaults(content, kind, chosen):
    """Profile defaults, then what differs for this trainer, then what the experiment says."""
    base = {**NOTEBOOK_DEFAULTS[kind], **content.get("data", {}), **content.get(kind, {})}
    trainer = chosen.get("trainer", base["trainer"])
    return {**base, **content.get("trainers", {}).get(str(trainer), {}).get(kind, {}), **chosen}


def _checked(kind, parameters, name):
    try:
        return kind.check(parameters).model_dump()
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from None


def _name(kind, parameters, label, seed):
    """A readable start, and a hash of every parameter, so that no two runs share a file.

    Parameters at the notebook's default stay out of the hash: a new parameter then renames no committed rows.
    """
    chosen = {
        name: value
        for name, value in parameters.items()
        if value != NOTEBOOK_DEFAULTS[kind].get(name)
    }
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]
    dataset = re.sub(r"[^\w.-]", "_", Path(parameters["dataset"]).stem)
    return "-".join(
        str(part)
        for part in (dataset, parameters["trainer"], parameters["sigma"], label, seed, digest)
    )


def _notebook_defaults(kind):
    """The parameters cell of a notebook, as papermill sees it."""
    notebook = json.loads((ROOT / "notebooks" / f"{kind}.ipynb").read_text())
    (source,) = [
        "".join(c["source"])
        for c in notebook["cells"]
        if "parameters" in c["metadata"].get("tags", [])
    ]
    values = {}
    exec(source, values)  # noqa: S102 -- our own notebook; annotations are data too
    return {k: v for k, v in values.items() if not k.startswith("__")}


NOTEBOOK_DEFAULTS = {kind: _notebook_defaults(kind) for kind in ("poison", "victim", "curator")}
