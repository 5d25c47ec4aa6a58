"""Which experiments a profile holds: its YAML expanded into the parameters of every notebook run.

A profile has defaults for victims and poisons (``victim``, ``poison``), what differs for one
trainer (``trainers``), and ``experiments``. In an experiment a list is an axis: the product of all
axes is run; an experiment may also be a list of such blocks. A poison takes its trainer, sigma,
class and data from the victim unless the experiment says otherwise; ``attack: none`` is clean data.
In the experiment ``curation`` the detectors too look at each poison.

A block with a ``notebook`` is one run of that notebook with its ``parameters``, where a list is a
value; data and network are the profile's unless they are among them. They name the ``rows_file``,
and ``poison`` makes the poison file that the notebook reads.

With ``kept: true`` the rows are evidence that is committed: what is there is never made again,
whatever changes in the code (its manifest names the commit that made it).
"""

import ast
import hashlib
import itertools
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from study.parameters import SettingsError
from study.profile import Analysis, Pair, read_profile
from study.results import ROOT
from study.rows import exist, read_rows
from study.settings import (
    AuditSettings,
    CostSettings,
    CuratorSettings,
    FirstLayerSettings,
    LinearSettings,
    PoisonSettings,
    ShortcutSettings,
    VictimSettings,
)

PROFILES = ROOT / "profiles"
SETTINGS = {
    "poison": PoisonSettings,
    "victim": VictimSettings,
    "curator": CuratorSettings,
    "cost": CostSettings,
    "shortcut": ShortcutSettings,
    "linear_vs_lenet": LinearSettings,
    "first_layer_theory": FirstLayerSettings,
    "audit": AuditSettings,
}
ROWS_NOTEBOOKS = tuple(name for name in SETTINGS if name != "poison")
# What a notebook writes beside its rows and their manifest.
BESIDE = {"shortcut": ["_pattern.csv"], "linear_vs_lenet": ["_prediction.csv", "_prediction.json"]}
# Attacks without which, in the setting of its first run, an experiment has nothing to show; of an
# experiment that is not here all runs are needed.
LEAST = {"trainers": ("none", "uniform", "first_order", "direct_search")}
NAMED_BY_GRID = {"seeds", "rows_file", "poison_file"}
DATA = ("dataset", "data_root", "split_seed", "train_size")
NETWORK = ("trainer", "sigma", "architecture", "normalisation", "target_class")
SHARED = (*DATA, *NETWORK, "device", "threads")
# Defaults of old: a run that has them keeps the name that it had, whatever the default is today.
NAMED_WITHOUT = {"normalisation": "centred", "precision": "float32"}


@dataclass
class Grid:
    """The runs of a profile.

    ``poisons`` maps a run's name to its parameters; ``by_notebook`` does so for each notebook that
    makes rows; ``experiments`` maps a name to its runs of the latter.
    """

    profile: str
    kept: bool = False
    poisons: dict = field(default_factory=dict)
    by_notebook: dict = field(default_factory=lambda: {name: {} for name in ROWS_NOTEBOOKS})
    experiments: dict = field(default_factory=dict)

    @property
    def victims(self):
        return self.by_notebook["victim"]

    @property
    def curators(self):
        return self.by_notebook["curator"]

    @property
    def runs(self):
        """Every run that makes rows."""
        return {run: p for runs in self.by_notebook.values() for run, p in runs.items()}

    @property
    def worth(self):
        """How much each run is worth (dict); the higher, the earlier it stands in the profile.

        A poison is worth as much as the first run that reads it.
        """
        every, found = self.runs, {}
        ordered = dict.fromkeys(run for runs in self.experiments.values() for run in runs)
        for worth, run in enumerate(reversed(ordered), start=1):
            found[run] = worth
            poison = every[run].get("poison_file")
            if poison:
                found[Path(poison).stem] = worth
        return found

    def attack_of(self, run):
        """The attack that a victim's run met, ``none`` without any."""
        poison = self.victims[run]["poison_file"]
        return self.poisons[Path(poison).stem]["attack"] if poison else "none"

    def files(self, run):
        """Paths that a run writes, below the root of the study: its result comes last."""
        if run in self.poisons:
            path, ends = Path(self.poisons[run]["poison_file"]), []
        else:
            path = Path(self.runs[run]["rows_file"])
            (notebook,) = [name for name, runs in self.by_notebook.items() if run in runs]
            ends = BESIDE.get(notebook, [])
        beside = [path.with_name(path.stem + end) for end in (".json", *ends)]
        return [*map(str, beside), str(path)]

    def chosen(self, experiment=None):
        """Runs of one experiment, or of all in their order, each once (list)."""
        if experiment not in (None, *self.experiments):
            known = ", ".join(self.experiments)
            raise SettingsError(f"EXPERIMENT must be one of {known}, not {experiment!r}.")
        names = self.experiments if experiment is None else [experiment]
        return list(dict.fromkeys(run for name in names for run in self.experiments[name]))

    def missing(self, experiment=None):
        """Runs of one experiment, or of all in their order, whose rows are still to be made.

        These are all runs, unless the profile is ``kept``.
        """
        every = self.runs
        runs = self.chosen(experiment)
        return [run for run in runs if not (self.kept and exist(_path(every[run])))]


def load(profile):
    """Read and check ``profiles/<profile>.yaml``.

    Every run is validated before any of them starts, but for the values of options, which are
    when it starts.

    Raises
    ------
    SettingsError
        On the first name or value that is wrong.
    """
    known = {path.stem: path for path in sorted(PROFILES.glob("*.yaml"))}
    if profile not in known:
        raise SettingsError(f"PROFILE must be one of {', '.join(known)}, not {profile!r}.")
    path = known[profile]
    return _load(path, path.stat().st_mtime_ns)


@lru_cache
def _load(path, written):
    """A page asks for the same grid again and again; nobody changes it."""
    content = read_profile(path)
    grid = Grid(path.stem, content.kept)
    for name, blocks in content.experiments.items():
        runs = [run for block in blocks for run in _add_block(grid, content, name, block)]
        grid.experiments[name] = list(dict.fromkeys(runs))
    return grid


def shown(*experiments):
    """Whose rows of some experiments a page shows: of ``paper`` where they are, else of ``laptop``.

    There have to be all runs of them, or those ``LEAST`` of an experiment.
    """
    paper = load("paper")
    whole = all(e in paper.experiments and not _lacking(paper, e) for e in experiments)
    return "paper" if whole else "laptop"


def _lacking(plan, experiment):
    """Runs without rows that the pages of an experiment cannot do without."""
    missing, attacks = plan.missing(experiment), LEAST.get(experiment)
    if attacks is None:
        return missing
    first = plan.victims[plan.experiments[experiment][0]]
    alike = [run for run in missing if _setting(plan.victims[run]) == _setting(first)]
    return [run for run in alike if plan.attack_of(run) in attacks]


def _setting(victim):
    return [victim[name] for name in ("dataset", "trainer", "sigma")]


def check_config(config):
    """Refuse a misspelt name, or another experiment than the one that was meant would run."""
    known = ("profile", "experiment")
    for name in config:
        if name not in known:
            raise SettingsError(f"--config may hold {', '.join(known)}, not {name!r}.")


def rows(profile, experiment):
    """All rows of victims that an experiment has so far, and how many of these runs are missing.

    A kept profile is computed in pieces, so some of its rows may not be there yet.

    Returns
    -------
    rows : DataFrame or None
        See :func:`study.rows.read_rows`; None where there are no rows at all.
    missing : int
    """
    found = paths(load(profile), experiment)
    there = [path for path in found if exist(path)]
    return (read_rows(*there) if there else None), len(found) - len(there)


def paths(plan, experiment, notebook="victim"):
    """Where the rows of an experiment's runs of a notebook are, or will be (list of paths).

    Of the whole profile where the experiment is None.
    """
    of_kind = plan.by_notebook[notebook]
    return [_path(of_kind[run]) for run in plan.chosen(experiment) if run in of_kind]


def rows_files(profile, experiment):
    """Where the rows of each run of an experiment are, or will be: ``{run: path}``."""
    plan = load(profile)
    every = plan.runs
    return {run: _path(every[run]) for run in plan.experiments[experiment]}


def _path(parameters):
    return ROOT / parameters["rows_file"]


def _add_block(grid, content, experiment, block):
    """Add the runs of one block of an experiment to the grid; the names of those with rows."""
    if isinstance(block, Analysis):
        return [_add_analysis(grid, content, experiment, block)]
    victims = _product(_axes(content.victim) | block.victim)
    poisons = _product(_axes(content.poison) | block.poison)
    runs = []
    for victim, poison in itertools.product(victims, poisons):
        run = _add_victim(grid, content, victim, poison)
        runs.append(run)
        if experiment == "curation" and grid.victims[run]["poison_file"]:
            runs.append(_add_curator(grid, grid.victims[run]))
    return runs


def _axes(defaults):
    """The list-valued defaults of a profile are axes of every experiment that does not set them."""
    return {name: value for name, value in defaults.items() if isinstance(value, list)}


def _product(axes):
    """Every combination of the list-valued entries."""
    lists = [value if isinstance(value, list) else [value] for value in axes.values()]
    return [dict(zip(axes, choice)) for choice in itertools.product(*lists)]


def _add_victim(grid, content, victim, poison):
    for name in NAMED_BY_GRID & {*victim, *poison}:
        raise SettingsError(
            f"a profile may not hold {name!r}: "
            "a run's files are named by its parameters, and its victim by `seed`."
        )
    victim = _with_defaults(content, "victim", victim)
    poison = _with_defaults(content, "poison", {**_shared(victim), **poison})
    victim["seeds"] = [victim.pop("seed", 0)]
    label = "clean" if poison["attack"] == "none" else poison["attack"]
    dataset, trainer, sigma = (victim[name] for name in ("dataset", "trainer", "sigma"))
    who = f"{dataset}, {trainer}, sigma {sigma}, {label}, seed {victim['seeds'][0]}"
    where = f"{grid.profile}.yaml: {who}"
    settings = _checked("victim", victim, where)
    if label == "clean":
        stand_in = {**poison, "attack": NOTEBOOK_DEFAULTS["poison"]["attack"]}
        _checked("poison", stand_in, where)
    else:
        _checked("poison", poison, where)
    _check_same_images(poison, victim, where)
    if label != "clean":
        victim["poison_file"] = _add_poison(grid, poison, where)
    run = _name("victim", victim, label, victim["seeds"][0])
    rows_file = f"data/results/{grid.profile}/{run}.csv"
    grid.victims[run] = settings | {"poison_file": victim["poison_file"], "rows_file": rows_file}
    return run


def _check_same_images(poison, victim, where):
    for name in (*DATA, "target_class"):
        if poison[name] != victim[name]:
            raise SettingsError(
                f"{where}: {name} must be the same for poison and victim, "
                f"not {poison[name]!r} and {victim[name]!r}."
            )


def _add_poison(grid, poison, where):
    """Add the run that makes a poison; the path of its file."""
    settings = _checked("poison", poison, where)
    run = _name("poison", poison, poison["attack"], poison["seed"])
    poison_file = f"data/poison/{grid.profile}/{run}.npz"
    grid.poisons[run] = {**settings, "poison_file": poison_file}
    return poison_file


def _add_curator(grid, victim):
    """Let the detectors look at the poison of a victim."""
    run = "curator-" + Path(victim["poison_file"]).stem
    parameters = {
        **NOTEBOOK_DEFAULTS["curator"],
        **_shared(victim),
        "trainer": NOTEBOOK_DEFAULTS["curator"]["trainer"],  # of the detectors' own network
        "poison_file": victim["poison_file"],
        "rows_file": f"data/results/{grid.profile}/{run}.csv",
    }
    grid.curators[run] = _checked("curator", parameters, run)
    return run


def _add_analysis(grid, content, experiment, block):
    """One run of a notebook whose rows stand for themselves, such as those of the attack's cost."""
    where = f"{grid.profile}.yaml: {experiment}, {block.notebook}"
    defaults = NOTEBOOK_DEFAULTS[block.notebook]
    shared = _shared({**content.data, **content.victim})
    profile = {name: value for name, value in shared.items() if name in defaults}
    parameters = {**defaults, **profile, **block.parameters}
    if block.poison and "poison_file" not in defaults:
        raise SettingsError(f"{where}: poison must be left out, as this notebook reads none.")
    if block.poison:
        poison = _with_defaults(content, "poison", {**_shared(parameters), **block.poison})
        _check_same_images(poison, parameters, where)
        parameters["poison_file"] = _add_poison(grid, poison, where)
    settings = _checked(block.notebook, parameters, where)
    run = _run_of(settings["rows_file"], where)
    if grid.runs.get(run, settings) != settings:
        raise SettingsError(f"{where}: rows_file must be that of no other run, not of {run!r} too.")
    grid.by_notebook[block.notebook][run] = settings
    return run


def _run_of(rows_file, where):
    """The name of a run whose rows have a place of their own below data/results."""
    if not re.fullmatch(r"data/results/[\w.-]+/[\w.-]+\.csv", rows_file or ""):
        raise SettingsError(
            f"{where}: rows_file must be data/results/FOLDER/NAME.csv, not {rows_file!r}."
        )
    return Path(rows_file).stem


def _shared(parameters):
    """Data, network and machine, which a run has in common with the poison that it reads."""
    return {name: parameters[name] for name in SHARED if name in parameters}


def _with_defaults(content, kind, chosen):
    """Profile defaults, then what differs for this trainer, then what the experiment says."""
    base = {**NOTEBOOK_DEFAULTS[kind], **content.data, **getattr(content, kind)}
    trainer = chosen.get("trainer", base["trainer"])
    differs = content.trainers.get(str(trainer), Pair())
    return {**base, **getattr(differs, kind), **chosen}


def _checked(notebook, parameters, where):
    return SETTINGS[notebook].check(parameters, f"{where}: ").model_dump()


def _name(kind, parameters, label, seed):
    """A readable start, and a hash of every parameter, so that no two runs share a file.

    Parameters at the notebook's default stay out of the hash: a new one renames no committed rows.
    """
    defaults = NOTEBOOK_DEFAULTS[kind] | NAMED_WITHOUT
    chosen = {name: value for name, value in parameters.items() if value != defaults.get(name)}
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]
    dataset = Path(parameters["dataset"]).stem
    parts = (dataset, parameters["trainer"], parameters["sigma"], label, seed, digest)
    return re.sub(r"[^\w.-]", "_", "-".join(map(str, parts)))


def _notebook_defaults(notebook):
    """The parameters cell of a notebook: each name with its value, a literal of Python."""
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    (source,) = ["".join(cell["source"]) for cell in tagged]
    lines = ast.parse(source).body
    return {line.target.id: ast.literal_eval(line.value) for line in lines}


NOTEBOOK_DEFAULTS = {notebook: _notebook_defaults(notebook) for notebook in SETTINGS}
