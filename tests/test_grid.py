"""What a profile's file means: its runs, their names, and one sentence where something is wrong."""

import re

import pytest

from pacd.losses import TRAINERS
from study import grid
from study.parameters import SettingsError
from study.profile import Profile
from study.rows import RUNS, exist, manifest_of, manifests

DEFAULTS = grid.NOTEBOOK_DEFAULTS


def test_an_unknown_profile_is_refused():
    with pytest.raises(SettingsError, match="PROFILE must be one of .*smoke.*, not 'smkoe'"):
        grid.load("smkoe")


def loaded(tmp_path, monkeypatch, content):
    monkeypatch.setattr(grid, "PROFILES", tmp_path)
    (tmp_path / "mine.yaml").write_text(content)
    return grid.load("mine")


def analysis(notebook, parameters, poison=""):
    block = f"notebook: {notebook}, parameters: {{{parameters}}}, poison: {{{poison}}}"
    return f"experiments: {{one: {{{block}}}}}"


WRONG_BLOCKS = [
    (
        "experiments: {one: {victm: {sigma: 0.5}}}",
        "mine.yaml: experiments: one may hold victim, poison, not 'victm'.",
    ),
    (
        "kep: true\nexperiments: {}",
        "mine.yaml may hold kept, data, victim, poison, trainers, experiments, not 'kep'.",
    ),
    (
        "trainers: {mcer: {}}\nexperiments: {}",
        f"mine.yaml: trainers may hold {', '.join(TRAINERS)}, not 'mcer'.",
    ),
    ("experiments: {one: }", "mine.yaml: experiments: one must hold victim, poison, not None."),
    ("", "mine.yaml must hold kept, data, victim, poison, trainers, experiments, not None."),
    (
        "trainers: {macer: {draws: 4}}\nexperiments: {}",
        "mine.yaml: trainers: macer may hold victim, poison, not 'draws'.",
    ),
    ("a: [", "mine.yaml must be YAML: while parsing"),
    ("kept: maybe", "mine.yaml: kept must be true or false, not 'maybe'."),
    ("data: 5", "mine.yaml: data must hold names with their values, not 5."),
    ("victim: {1: 2}", "mine.yaml: victim must hold names with their values, not {1: 2}."),
    ("experiments: [1]", "mine.yaml: experiments must hold names with their values, not [1]."),
    ("trainers: 1", f"mine.yaml: trainers must hold {', '.join(TRAINERS)}, not 1."),
    ("experiments: {one: {1: 2}}", "mine.yaml: experiments: one may hold victim, poison, not 1."),
    ("experiments: {one: []}", "mine.yaml: experiments: one must hold victim, poison, not None."),
    (
        "experiments: {one: {victim: 3}}",
        "mine.yaml: experiments: one: victim must hold names with their values, not 3.",
    ),
    (
        "experiments: {one: {victim: {sigma: []}}}",
        "mine.yaml: experiments: one: victim must have one value or more for each name, not [].",
    ),
    (
        "experiments:\n  one: {poison: {attack: none}}\n  one: {poison: {attack: uniform}}",
        "mine.yaml must be YAML: 'one' is twice in one place, which begins in line 2.",
    ),
]
WRONG_RUNS = [
    (
        "experiments: {one: {victim: {seeds: [0, 1]}, poison: {attack: none}}}",
        "a profile may not hold 'seeds'",
    ),
    (
        "data: {dataset: 5}\nexperiments: {one: {victim: {seed: 0}}}",
        "mine.yaml: 5, gaussian, sigma 0.5, first_order, seed 0: dataset must be",
    ),
    (
        "experiments: {one: {victim: {trainer: [[gaussian]]}, poison: {attack: none}}}",
        "mine.yaml: mnist5k, ['gaussian'], sigma 0.5, clean, seed 0: trainer must be",
    ),
    (
        "experiments: {one: {victim: {lr: fast}, poison: {attack: none}}}",
        "mine.yaml: mnist5k, gaussian, sigma 0.5, clean, seed 0: lr must be",
    ),
    (
        "experiments: {one: {poison: {attack: none, esp_linf: 0.1}}}",
        "mine.yaml: mnist5k, gaussian, sigma 0.5, clean, seed 0: "
        "unknown parameter 'esp_linf'; did you mean 'eps_linf'?",
    ),
    (
        "experiments: {one: {poison: {target_class: 3}}}",
        "mine.yaml: mnist5k, gaussian, sigma 0.5, first_order, seed 0: "
        "target_class must be the same for poison and victim, not 3 and 8.",
    ),
    (
        "data: {dataset: 2020-01-01}\nexperiments: {one: {}}",
        "mine.yaml: 2020-01-01, gaussian, sigma 0.5, first_order, seed 0: dataset must be",
    ),
    (
        "experiments: {one: {victim: {seed: 0}, poison: {attack: pacd}}}",
        "mine.yaml: mnist5k, gaussian, sigma 0.5, pacd, seed 0: attack must be",
    ),
]
ROWS = "rows_file: data/results/here/rows.csv"
WRONG_ANALYSES = [
    (
        "experiments: {one: {notebok: cost, parameters: {}}}",
        "mine.yaml: experiments: one may hold notebook, parameters, poison, not 'notebok'.",
    ),
    ("experiments: {one: {notebook: cost}}", "mine.yaml: experiments: one must hold 'parameters'."),
    (
        analysis("costs", ROWS, ""),
        "mine.yaml: experiments: one: notebook must be one of cost, shortcut, linear_vs_lenet, "
        "first_layer_theory, "
        "audit, not 'costs'.",
    ),
    (
        analysis("cost", "growth: 0.5", ""),
        "mine.yaml: one, cost: growth must be a number above 1, at most a million, not 0.5",
    ),
    (
        analysis("cost", "seeds: [0]", ""),
        "mine.yaml: one, cost: seeds must be two or more distinct whole numbers, such as 0,1, not",
    ),
    (
        analysis("cost", "controls: [chess]", ""),
        "mine.yaml: one, cost: controls must be one or more distinct of uniform,",
    ),
    (
        analysis("linear_vs_lenet", "sgima: 1.0", ""),
        "mine.yaml: one, linear_vs_lenet: unknown parameter 'sgima'; did you mean 'sigma'?",
    ),
    (
        analysis("cost", "", ""),
        "mine.yaml: one, cost: rows_file must be data/results/FOLDER/NAME.csv, not None.",
    ),
    (
        analysis("cost", "rows_file: ../rows.csv", ""),
        "mine.yaml: one, cost: rows_file must be data/results/FOLDER/NAME.csv, not '../rows.csv'.",
    ),
    (
        analysis("cost", ROWS, "attack: uniform"),
        "mine.yaml: one, cost: poison must be left out, as this notebook reads none.",
    ),
    (
        analysis("shortcut", ROWS, ""),
        "mine.yaml: one, shortcut: poison_file must be the path of a poison file",
    ),
    (
        analysis("shortcut", ROWS, "attack: chess"),
        "mine.yaml: one, shortcut: attack must be one of",
    ),
    (
        analysis("shortcut", ROWS, "target_class: 3"),
        "mine.yaml: one, shortcut: target_class must be the same for poison and victim, not 3 and",
    ),
    (
        "experiments: {one: [{notebook: cost, parameters: {rows_file: data/results/a/rows.csv}}, "
        "{notebook: audit, parameters: {rows_file: data/results/b/rows.csv}}]}",
        "mine.yaml: one, audit: rows_file must be that of no other run, not of 'rows' too.",
    ),
]


@pytest.mark.parametrize("content, sentence", WRONG_BLOCKS + WRONG_RUNS + WRONG_ANALYSES)
def test_a_profile_is_checked_before_it_runs(tmp_path, monkeypatch, content, sentence):
    with pytest.raises(SettingsError, match="^" + re.escape(sentence)) as caught:
        loaded(tmp_path, monkeypatch, content)
    assert "\n" not in str(caught.value)


def test_a_notebooks_run_has_the_profiles_data_and_its_own_parameters(tmp_path, monkeypatch):
    content = """
data: {train_size: 1000}
victim: {sigma: 0.25, epochs: 3}
poison: {steps: 7}
experiments:
  one:
    - notebook: shortcut
      parameters: {trainer: macer, strengths: [0.0, 1.0], rows_file: data/results/here/rows.csv}
      poison: {attack: cg}
  two: {victim: {trainer: macer}, poison: {attack: cg}}
"""
    plan = loaded(tmp_path, monkeypatch, content)
    (run,), (victim,) = plan.experiments["one"], plan.experiments["two"]
    parameters = plan.runs[run]
    assert parameters["poison_file"] == plan.victims[victim]["poison_file"]  # made once
    (poison,) = plan.poisons.values()
    assert (poison["trainer"], poison["sigma"], poison["steps"]) == ("macer", 0.25, 7)
    assert (parameters["train_size"], parameters["strengths"]) == (1000, [0.0, 1.0])
    assert parameters["epochs"] == DEFAULTS["shortcut"]["epochs"] != 3  # the victims' own
    assert plan.missing("one") == ["rows"]
    assert grid.rows_files("mine", "one") == {"rows": grid.ROOT / "data/results/here/rows.csv"}


@pytest.mark.parametrize("profile", ["laptop", "paper"])
def test_the_trial_runs_whatever_has_a_name_in_the_larger_profiles(profile):
    """Notebooks, trainers, networks, attacks, all other choices from a list, and switches.

    Not data sets, whose stand-ins are the embedded digits and coloured ones, nor the first layer of
    networks that are only a means, as those of detectors.
    """
    means = {("cost", "normalisation"), ("curator", "normalisation")}

    def chosen(name):
        plan = grid.load(name)
        kinds = {"poison": plan.poisons, **plan.by_notebook}
        return {
            (kind, key, value)
            for kind, runs in kinds.items()
            for parameters in runs.values()
            for key, value in parameters.items()
            if isinstance(value, (str, bool))
            and key not in ("dataset", "poison_file", "rows_file", "compiled", "precision")
            and (kind, key) not in means
        } | {(kind,) for kind, runs in kinds.items() if runs}

    assert (
        chosen(profile) - chosen("trial") - chosen("smoke") == set() and len(chosen(profile)) > 40
    )


def test_the_paper_profile_has_the_studys_data_sets():
    datasets = {victim["dataset"] for victim in grid.load("paper").victims.values()}
    assert datasets >= {"mnist", "fashion_mnist", "cifar10"}


def test_a_misspelt_choice_of_experiment_is_refused():
    grid.check_config({"profile": "smoke", "experiment": "headline"})
    sentence = "^--config may hold profile, experiment, not 'expermient'.$"
    with pytest.raises(SettingsError, match=sentence):
        grid.check_config({"expermient": "headline"})


def test_a_file_name_that_a_shell_or_snakemake_would_split():
    content = Profile(data={"dataset": "my {odd} digits.npz"})
    name = grid._add_victim(grid.Grid("t"), content, {}, {"attack": "none"})
    assert re.fullmatch(r"my__odd__digits-gaussian-0.5-clean-0-\w{8}", name)


def test_a_change_in_the_profile_renames_only_what_depends_on_it():
    def runs(**poison):
        content = Profile(poison={"steps": 5, **poison})
        attacks = [{"attack": "none"}, {"attack": "cg"}]
        return [grid._add_victim(grid.Grid("t"), content, {}, attack) for attack in attacks]

    (clean, poisoned), (clean_again, other) = runs(), runs(steps=6)
    assert clean == clean_again and poisoned != other


def test_a_kept_profile_makes_only_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "ROOT", tmp_path)
    plan = grid.Grid("t", kept=True, experiments={"x": ["a", "b"], "y": ["b", "c", "d"]})
    for notebook, runs in (("victim", "abc"), ("cost", "d")):
        for run in runs:
            plan.by_notebook[notebook][run] = {"rows_file": f"data/results/t/{run}.csv"}
    path = tmp_path / "data/results/t/b.csv"
    path.parent.mkdir(parents=True)
    path.touch()
    assert plan.missing() == ["a", "c", "d"] and plan.missing("y") == ["c", "d"]
    with pytest.raises(SettingsError, match="EXPERIMENT must be one of x, y, not 'z'"):
        plan.missing("z")
    plan.kept = False
    assert plan.missing("x") == ["a", "b"]


def test_a_new_parameter_at_its_default_renames_no_committed_rows(monkeypatch):
    given = {**DEFAULTS["victim"], "sigma": 0.25}
    before = grid._name("victim", given, "clean", 0)
    monkeypatch.setitem(grid.NOTEBOOK_DEFAULTS, "victim", {**DEFAULTS["victim"], "brand_new": 1})
    assert grid._name("victim", {**given, "brand_new": 1}, "clean", 0) == before
    assert grid._name("victim", {**given, "brand_new": 2}, "clean", 0) != before


def test_names_are_what_they_were():
    """Of two runs whose rows are committed, by heart: another hash would make them all again."""
    runs = set(grid.load("laptop").runs)
    assert "mnist-gaussian-0.5-first_order-0-123e83d1" in runs
    assert "curator-mnist-gaussian-0.5-first_order-0-f811057e" in runs


@pytest.mark.parametrize("profile", ["laptop", "paper"])
def test_committed_rows_are_those_that_the_profile_asks_for(profile):
    """A changed default would change what a run means and not its name, but for its manifest."""
    plan = grid.load(profile)
    for run, wanted in plan.runs.items():
        path = grid.ROOT / wanted["rows_file"]
        if exist(path):
            made = dict(manifest_of(path)["parameters"])
            if made.get("rows_file", "") is None:  # the notebook's default, which is this file
                made["rows_file"] = wanted["rows_file"]
            assert {name: made.get(name, value) for name, value in wanted.items()} == wanted, run
    folder = grid.ROOT / "data" / "results" / profile
    rows = {path.stem for path in folder.glob("*.csv")}
    for path in folder.glob(f"*{RUNS}"):
        assert not rows & set(manifests(path)["runs"]), "a run that is kept twice"
        rows |= set(manifests(path)["runs"])
    assert rows <= set(plan.runs), "rows that no experiment asks for"


def test_all_rows_that_are_committed_are_of_the_grid():
    """Those of analyses too, so each can be made again by ``make study``."""
    paths = {grid.ROOT / run["rows_file"] for run in grid.load("laptop").runs.values()}
    folder = grid.ROOT / "data" / "results"
    beside = ("_pattern", "_prediction")
    for part in ("shortcut", "theory"):
        found = {path for path in (folder / part).glob("*.csv") if not path.stem.endswith(beside)}
        assert found and found <= paths
