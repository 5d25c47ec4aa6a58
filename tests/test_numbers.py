"""What pages say is what the committed rows say.

Each page's numbers are well formed, are all that its prose names, and one or more of them are
computed again here from the files of rows and manifests with numpy and pandas alone.
"""

import ast
import json
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml

from pacd.data import ROOT
from study import grid, headline, numbers
from study.claims import LEDGER
from study.numbers import shared
from study.results import write_poison
from study.rows import exist, load, manifest_of

BOOK = ROOT / "book"
RESULTS = ROOT / "data" / "results"
FENCE = re.compile(r"^```\{code-cell\} ipython3\n(.*?)^```$", re.M | re.S)
GLUED = re.compile(r"\{glue:text\}`([^`]+)`")
EXPERIMENT = re.compile(r'provenance\("(\w+)"\)')


def pages():
    """Addresses of the pages that show numbers of the study's rows."""
    found = sorted(path for path in BOOK.rglob("*.md") if "_build" not in path.parts)
    return [
        path.relative_to(BOOK).with_suffix("").as_posix()
        for path in found
        if "glue_all(" in path.read_text(encoding="utf-8")
    ]


PAGES = pages()
OF_SMOKE = ["gallery", "results"]  # their rows are made by `make book`
OF_LAPTOP = [page for page in PAGES if page not in OF_SMOKE]


def text(page):
    return (BOOK / f"{page}.md").read_text(encoding="utf-8")


def module(page):
    return import_module(f"study.numbers.{Path(page).name}")


class Said(NamedTuple):
    """A page's numbers, and the experiments whose rows were read for them."""

    numbers: dict
    experiments: set


@cache
def said(page):
    loaded, load = set(), shared.load
    with pytest.MonkeyPatch.context() as patch:
        recorded = lambda profile, experiment: loaded.add(experiment) or load(profile, experiment)
        patch.setattr(shared, "load", recorded)
        patch.setattr(module(page), "load", recorded, raising=False)
        return Said(module(page).numbers(), loaded)


def number(page, name):
    """A number in prose, without what stands around it."""
    return float(re.search(r"-?[\d.]+", str(said(page).numbers[name]).replace(",", "")).group())


# ---- form ----


def malformed(found):
    """Entries of a dict that are neither a finite number nor a text without a broken number."""
    broken = re.compile(r"\b(nan|inf)\b|^None$|^\s*$|[{}]")
    return [name for name, value in found.items() if broken.search(str(value))]


@pytest.mark.parametrize("page", OF_LAPTOP)
def test_numbers_are_well_formed(page):
    assert said(page).numbers and malformed(said(page).numbers) == []


@pytest.mark.parametrize("page", OF_LAPTOP)
def test_prose_names_numbers_that_are_there(page):
    assert set(GLUED.findall(text(page))) <= set(said(page).numbers)


@pytest.mark.parametrize("page", OF_LAPTOP)
def test_a_page_declares_the_experiments_that_it_shows(page):
    needed = numbers.experiments(page)
    shown = said(page).experiments | set(EXPERIMENT.findall(text(page)))
    assert set(needed.experiments) == shown
    assert shown <= set(grid.load(needed.profile).experiments)


def test_malformed_numbers_are_found():
    planted = {"a": "nan % [1, 2]", "b": "", "c": float("inf"), "d": "{drop} %", "e": None}
    assert malformed(planted | {"fine": "-0.3 % [none, 2]", "two": 2}) == list(planted)


# ---- cells ----


def cells(page):
    """Code of a page's cells, without their options."""
    for block in FENCE.findall(text(page)):
        block = block.split("---\n", 2)[-1] if block.startswith("---\n") else block
        lines = block.splitlines()
        yield "\n".join(line for line in lines if not line.startswith(":")).strip()


def computing(code):
    """Statements of a cell that are more than an import or one call of a function of the study."""
    allowed = (ast.Import, ast.ImportFrom)
    return [
        ast.unparse(statement)
        for statement in ast.parse(code.rstrip(";")).body
        if not isinstance(statement, allowed) and not is_call(statement)
    ]


def is_call(statement):
    """f("text") or module.f() or f(module.g())."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    inner = (ast.Call, ast.Name, ast.Attribute, ast.Constant, ast.Load)
    return all(isinstance(node, inner) for node in ast.walk(statement.value))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_computes_nothing(page):
    first, *others = cells(page)
    assert len(first.splitlines()) <= 8 and all(len(code.splitlines()) == 1 for code in others)
    assert [line for code in (first, *others) for line in computing(code)] == []


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_calls_is_there(page):
    called = re.findall(rf"{Path(page).name}\.(\w+)\(", "\n".join(cells(page)))
    assert called and all(callable(getattr(module(page), name, None)) for name in called)


def test_first_cells_are_short():
    assert np.median([len(next(cells(page)).splitlines()) for page in PAGES]) <= 3


def test_computing_is_found():
    for code in ("x = 1", "drops(rows[rows['a'] == 1])", "1 + 1", "for x in y: f(x)"):
        assert computing(code)
    assert not computing("from study.numbers import index\nindex.curves();")


# ---- the rows themselves, read here without the study's readers ----


class Run(NamedTuple):
    attack: str
    parameters: dict
    poison: dict
    manifest: dict
    rows: pd.DataFrame


@cache
def runs(experiment):
    plan = grid.load("laptop")
    names = [run for run in plan.experiments[experiment] if run in plan.victims]
    paths = [ROOT / plan.victims[name]["rows_file"] for name in names]
    return [read(path) for path in paths if exist(path)]


def read(path):
    rows, manifest = load(path)
    poison = manifest["poison"] or {"attack": "none"}
    return Run(poison["attack"], manifest["parameters"], poison, manifest, rows)


def chosen(experiment, attack, **parameters):
    return [
        run
        for run in runs(experiment)
        if run.attack == attack
        and all(has(run, name) == value for name, value in parameters.items())
    ]


def has(run, name):
    """Rows from before ``normalisation`` was a parameter are of centred networks."""
    return {"normalisation": "centred", **run.parameters}.get(name)


def radii(selected):
    """Radii by victim seed and test point."""
    table = pd.concat([run.rows for run in selected])
    return table.pivot_table(index="seed", columns="index", values="radius")


def drop(clean, poisoned):
    """Relative drop of the ACR in per cent over the seeds that both sides have."""
    clean, poisoned = radii(clean), radii(poisoned)
    seeds = clean.index.intersection(poisoned.index)
    return 100 * (1 - poisoned.loc[seeds].to_numpy().mean() / clean.loc[seeds].to_numpy().mean())


def drop_of(experiment, attack="first_order", **parameters):
    return drop(*(chosen(experiment, name, **parameters) for name in ("none", attack)))


def accuracies(selected, which="target"):
    """Accuracy without noise by victim seed, in per cent."""
    found = {}
    for run in selected:
        found |= {int(seed): 100 * of[which] for seed, of in run.manifest["accuracy"].items()}
    return pd.Series(found)


def test_index():
    cell = {"trainer": "gaussian", "sigma": 0.5}
    assert number("index", "drop") == round(drop_of("trainers", **cell))
    centred = drop_of("first_layer", "uniform", normalisation="centred")
    assert number("index", "centred_uniform") == round(centred)
    assert number("index", "tint") == round(drop_of("cifar10", "tint"))
    trainers, sigmas = ("gaussian", "smoothadv", "macer"), (0.25, 0.5, 0.75)
    cells = [drop_of("trainers", trainer=t, sigma=s) for t in trainers for s in sigmas]
    above = f"{sum(drop > 30 for drop in cells)} of 9 settings, "
    assert said("index").numbers["above"].startswith(above)
    seeds = [len(chosen("trainers", "first_order", trainer=t)) / 3 for t in trainers]  # sigmas
    fewest, most = (int(number("index", name)) for name in ("fewest_seeds", "seeds"))
    assert (fewest, most) == (min(seeds), max(seeds))
    clean = radii(chosen("trainers", "none", **cell))
    poisoned = radii(chosen("trainers", "first_order", **cell))
    clean = clean.loc[poisoned.index]
    assert number("index", "acr_clean") == pytest.approx(clean.to_numpy().mean(), abs=0.005)
    claims = json.loads((ROOT / "data" / "claims.json").read_text())
    of_paper = {line["id"] for line in claims if line["source"].startswith("paper")}
    assert said("index").numbers["paper_claims"] == len(of_paper)


def test_ladder():
    controls = [run.attack for run in runs("ladder")]
    bilevel = {"none", "first_order", "cg", "neumann", "gradient_matching", "direct_search"}
    drops = {name: drop_of("ladder", name) for name in set(controls) - bilevel}
    best = max(drops, key=drops.get)
    assert number("experiments/ladder", "control") == round(drops[best])
    search = drop(chosen("ladder", best), chosen("ladder", "direct_search"))
    assert number("experiments/ladder", "direct_search_beyond") == round(search)
    assert number("experiments/ladder", "first_order") == round(drop_of("ladder"))
    assert number("experiments/ladder", "cap") == pytest.approx(2.70, abs=0.01)
    outside = drop_of("convolution", "extras.unlearnable:convolution")
    assert said("experiments/ladder").numbers["convolution"].startswith(f"{round(outside)} %")


def test_anatomy():
    page, path = "experiments/anatomy", RESULTS / "shortcut" / "first_order.csv"
    votes = pd.read_csv(path)
    shown = votes[(votes["victim"] == "poisoned") & (votes["images"] == "others")]
    share = 100 * shown.loc[shown["strength"] == 1, "share"].mean()
    assert number(page, "others_1") == pytest.approx(share, abs=0.05)
    parts = json.loads(path.with_suffix(".json").read_text())["anatomy"]
    assert number(page, "shift") == round(100 * parts["shift"])
    assert parts["shift"] + parts["pattern"] + parts["own"] == pytest.approx(1)


@pytest.mark.parametrize("patterns, victims", [(2, 2), (3, 5), (24, 47), (64, 126)])
def test_successive_halving(patterns, victims):
    """24 + 12 + 6 + 3 + 2, and the like."""
    assert module("ladder").short_victims(patterns) == victims


def test_trainers():
    sigma = min(run.parameters["sigma"] for run in chosen("trainers", "first_order"))
    cell = {"trainer": "gaussian", "sigma": sigma}
    page = "experiments/trainers"
    assert number(page, "low_sigma") == sigma
    assert number(page, "drop_low") == round(drop_of("trainers", **cell))
    clean = pd.concat([run.rows for run in chosen("trainers", "none", **cell)])
    wins = clean.apply(lambda row: row[f"count_{int(row['guess'])}"], axis=1)
    at_cap = (wins == clean["n"]) & (clean["prediction"] == clean["label"])
    assert number(page, "capped") == round(100 * at_cap.mean())


def test_published():
    lines = json.loads(LEDGER.read_text())
    (cells,) = (ln["cells"] for ln in lines if ln["id"] == "fidelity" and ln["cells"])
    near = sum(-0.03 < cell["low"] and cell["high"] < 0.03 for cell in cells)
    page = "experiments/published"
    assert said(page).numbers["near"] == f"{near} of {len(cells)}"
    worst = max((cell["estimate"] for cell in cells), key=abs)
    assert number(page, "worst") == round(100 * worst)


def test_transfer():
    made = {
        trainer: [run for run in runs("transfer") if is_poison(run, trainer, victim="smoothadv")]
        for trainer in ("gaussian", "smoothadv")
    }
    expected = drop(made["gaussian"], made["smoothadv"])
    assert number("experiments/transfer", "own_smoothadv") == round(expected)


def is_poison(run, trainer, victim):
    return run.poison.get("trainer") == trainer and run.parameters["trainer"] == victim


def test_cifar10():
    page = "experiments/cifar10"
    clean, poisoned = (chosen("cifar10", attack) for attack in ("none", "tint"))
    assert f"{round(drop(clean, poisoned))} %" in said(page).numbers["verdict"]
    assert number(page, "accuracy_none") == round(accuracies(clean, "all").mean())
    assert number(page, "target_tint") == round(accuracies(poisoned).mean())
    rows = pd.concat([run.rows for run in poisoned])
    assert number(page, "noisy_tint") == round(100 * (rows["guess"] == 8).mean())
    assert number(page, "ciede2000") == round(poisoned[0].manifest["distortion"]["ciede2000"], 1)


def test_table1():
    sides = (chosen("table1", attack, trainer="macer") for attack in ("none", "accuracy"))
    clean, poisoned = map(accuracies, sides)
    fall = (clean - poisoned).dropna()
    assert number("experiments/table1", "MACER") == pytest.approx(fall.mean(), abs=0.051)


def test_classes():
    drops = {c: drop_of("classes", target_class=c) for c in range(10)}
    eight = drops.pop(8)
    least = min(drops, key=drops.get)
    assert number("experiments/classes", "eight") == round(eight)
    expected = f"{round(drops[least])} % (class {least})"
    assert said("experiments/classes").numbers["least"] == expected


def test_training_in_bfloat16():
    told = said("experiments/sweeps").numbers
    for precision in ("float32", "bfloat16"):
        clean, poisoned = (
            [run for run in chosen("training_precision", attack) if precision_of(run) == precision]
            for attack in ("none", "uniform")
        )
        assert number("experiments/sweeps", f"acr_{precision}") == round(
            radii(clean).mean().mean(), 3
        )
        assert told[f"drop_{precision}"].startswith(f"{round(drop(clean, poisoned))} %")


def precision_of(run):
    """Rows from before it was a parameter are of float32."""
    return run.parameters.get("training_precision", "float32")


def test_architectures():
    networks = {run.parameters["architecture"] for run in runs("architectures")} - {"lenet"}
    drops = [round(drop_of("architectures", architecture=name)) for name in networks]
    verdict = said("experiments/architectures").numbers["verdict"]
    assert f"the drops run from {min(drops)} to {max(drops)} %" in verdict
    sides = (
        chosen("architectures", name, architecture="mlp") for name in ("uniform", "first_order")
    )
    assert f"mlp: {round(drop(*sides))} %" in said("experiments/architectures").numbers["beyond"]


def test_defences():
    decays = {run.parameters["weight_decay"] for run in runs("defences")} - {0}
    expected = drop_of("defences", weight_decay=decays.pop())
    assert number("experiments/defences", "decay") == round(expected)
    assert number("experiments/defences", "crops") == round(
        drop_of("defences", augmentation="crop")
    )


def test_empirical():
    rows = pd.concat([run.rows for run in runs("empirical")])
    inside = (rows["radius"] > 0) & (rows["empirical_radius"] < rows["radius"])
    page = "experiments/empirical"
    assert said(page).numbers["inside"] == inside.sum()
    assert number(page, "certificates") == (rows["radius"] > 0).sum()
    clean = pd.concat([run.rows for run in chosen("empirical", "none")])
    assert number(page, "median_none") == clean["empirical_radius"].median()


def test_raw_pixels():
    page = "experiments/raw_pixels"
    assert number(page, "search") == round(drop_of("centred", "direct_search"))
    for scaling in ("none", "mnist"):
        uniform = drop_of("first_layer", "uniform", normalisation=scaling)
        assert number(page, f"{scaling}_uniform") == round(uniform)
        clean = chosen("first_layer", "none", normalisation=scaling)
        expected = radii(clean).to_numpy().mean()
        assert number(page, f"clean_{scaling}") == pytest.approx(expected, abs=0.005)


def test_sweeps():
    sides = [
        [run for run in runs("rounding") if run.parameters["eight_bit"] == rounded]
        for rounded in (False, True)
    ]
    assert number("experiments/sweeps", "rounding_estimate") == round(-drop(*sides))
    sizes = {run.poison["eps_linf"] for run in runs("eps") if run.attack == "first_order"}
    shown = said("experiments/sweeps").numbers["eps"].split("; ")
    assert [float(part.split(":")[0]) for part in shown] == sorted(sizes)
    for part in shown:
        size = float(part.split(":")[0])
        poisoned = [r for r in chosen("eps", "first_order") if r.poison["eps_linf"] == size]
        expected = round(drop(chosen("eps", "none"), poisoned))
        assert part.split(": ")[1].startswith(f"{expected} %")
    half = [run for run in chosen("fraction", "first_order") if run.poison["fraction"] == 0.5]
    expected = round(drop(chosen("fraction", "none"), half))
    assert said("experiments/sweeps").numbers["half"].startswith(f"{expected} %")


def test_curator():
    found = pd.read_csv(RESULTS / "laptop" / "curation-curator.csv.xz")
    assert number("curator", "detectors") == found["detector"].nunique()
    kinds = {
        (r.attack, r.poison.get("fraction"), r.parameters["curation"]) for r in runs("curation")
    }
    treated = {kind for kind in kinds if kind[0] != "none" and kind[2] != "none"}
    assert number("curator", "total") == len(treated)


def test_curator_finds_what_stands_out():
    """A detector finds a poison above guessing and above what it said before poisoning."""
    finds = module("curator").finds

    def scored(poisoned, clean):
        lines = {"data": ["poisoned", "clean"], "auc": [poisoned[1], clean[1]]}
        ends = {"low": [poisoned[0], clean[0]], "high": [poisoned[2], clean[2]]}
        return pd.DataFrame(lines | ends)

    assert finds(scored((0.7, 0.8, 0.9), (0.4, 0.5, 0.6)))
    assert not finds(scored((0.55, 0.8, 0.9), (0.4, 0.5, 0.6)))
    assert not finds(scored((0.45, 0.6, 0.7), (0.1, 0.2, 0.3)))


def test_claims():
    claims = yaml.safe_load((ROOT / "data" / "claims.yaml").read_text())
    found = said("claims").numbers
    verdicts = ("reproduced", "partly", "not_reproduced", "not_run")
    assert sum(found[name] for name in verdicts) == found["claims"] == len(claims)


def test_a_claim_counts_once_by_the_last_profile_that_has_run_it():
    def line(claim, verdict, cells=("a cell",)):
        return {"claim": claim, "source": "paper, table 2", "verdict": verdict, "cells": cells}

    lines = [line("x", "partly"), line("x", "reproduced"), line("x", "not run", ())]
    lines += [line("y", "not run", ())]
    counts = module("claims").verdicts(lines)
    expected = {"reproduced": 1, "partly": 0, "not reproduced": 0, "not run": 1}
    assert counts == expected and not any(module("claims").verdicts(lines, "other").values())


def test_cost():
    """Of a poison that was made twice, its victims' manifests may hold either time."""
    seconds, poisons = 0, {}
    for parameters in grid.load("laptop").victims.values():
        path = ROOT / parameters["rows_file"]
        if exist(path):
            manifest = manifest_of(path)
            seconds += manifest["seconds"]
            made = manifest.get("poison_seconds", 0)
            poisons.setdefault(parameters["poison_file"], []).append(made)
    poisons.pop(None, None)
    least, most = (seconds + sum(map(end, poisons.values())) for end in (min, max))
    assert least / 3600 - 0.051 < number("cost", "hours") < most / 3600 + 0.051


def test_certification():
    rows = pd.read_csv(ROOT / "data" / "benchmarks" / "certify.csv")
    value = rows.set_index(["kind", "case", "quantity"])["value"]
    ratio = value["speed", "ours, two million", "ratio"]
    assert number("certification", "many") == pytest.approx(ratio, abs=0.051)
    assert number("certification", "moved_mixed") == value["moved", "mixed", "moved"]
    files = grid.rows_files("laptop", "draws").values()
    clean = [rows for rows, made in map(load, files) if made["parameters"]["poison_file"] is None]
    whole = pd.concat(clean)
    assert number("certification", "clean_acr") == pytest.approx(whole["radius"].mean(), abs=5.1e-4)
    assert number("certification", "cap_1000") == pytest.approx(2.46, abs=0.01)


def test_cost_of_attack():
    rows = pd.read_csv(ROOT / "data" / "results" / "laptop" / "cost_mnist.csv")
    solved = rows[(rows["kind"] == "solver") & (rows["case"] == "cg 20")]
    least = solved[solved["damping"] == solved["damping"].min()]
    assert number("cost_of_attack", "signs_cg") == round(100 * least["signs"].mean())


def snapshots(drops):
    steps = range(1, len(drops) + 1)
    table = {"case": "first_order", "drop": drops, "step": steps, "seconds": 2.0}
    return pd.DataFrame(table | {"evaluations": [1000.0 * step for step in steps]})


@pytest.mark.parametrize(
    "drops, words",
    [
        ([0.1, 0.2, 0.35], "reached with 3,000 gradient evaluations (3 poison steps, 2 s)"),
        ([0.4, 0.5], "at most 1,000 gradient evaluations (1 poison steps, 2 s)"),
        ([0.1, 0.2], "not reached within 2,000 gradient evaluations (2 poison steps, 2 s)"),
    ],
)
def test_cost_until_the_drop(drops, words):
    spent = module("cost_of_attack").spent(snapshots(drops), "first_order")
    assert spent == f"ours: {words}"


def test_readme_shows_what_the_rows_say(tmp_path):
    headline.draw(tmp_path / "new.svg")
    new, shown = ((path).read_text() for path in (tmp_path / "new.svg", headline.PATH))
    number = re.compile(r"-?\d+\.\d+")
    assert number.sub("", new) == number.sub("", shown)
    values = [np.array(number.findall(text), float) for text in (new, shown)]
    np.testing.assert_allclose(*values, atol=0.01)  # points of 1/72 inch


# ---- the smoke profile's pages, whose rows are not committed ----


def made_rows(attack, radius, **columns):
    """Two victims and eight points of known radii; the last point is wrong."""
    size = np.arange(16)
    point = size % 8
    wrong = point == 7
    facts = {"attack": attack, "trainer": "gaussian", "crafting_trainer": "gaussian"}
    facts |= {"dataset": "mnist5k", "target_class": 8, "sigma": 0.5, "n": 100, "n0": 100}
    facts |= {"alpha": 0.001, "epochs": 2, "eps_linf": 0.1, "split_seed": 0, "label": 8}
    table = pd.DataFrame({"seed": size // 8, "index": 450 + point} | facts | columns)
    return table.assign(
        guess=np.where(wrong, 3, 8),
        prediction=np.where(wrong, -1, 8),
        radius=np.where(wrong, 0, radius + 0.01 * point + 0.02 * (size // 8)),
        count_3=np.where(wrong, 60, 5),
        count_8=np.where(wrong, 40, 95),
    )


@pytest.fixture
def smoke(monkeypatch, tmp_path, digits):
    """Pages of the smoke profile see these rows, and a poison that brightens by 25 levels."""
    path = tmp_path / "poison.npz"
    index = (digits.y_train == 8).nonzero()[:, 0][:5]
    images = (digits.x_train[index] + 25 / 255).clamp(max=1)
    facts = {"parameters": {"eps_linf": 0.1, "target_class": 8, "train_size": None}}
    write_poison(path, digits, index, images, facts)
    rows = pd.concat(
        [
            made_rows("none", 0.8),
            made_rows("uniform", 0.6),
            made_rows("first_order", 0.4, poison_file=str(path)),
        ],
        ignore_index=True,
    )
    for page in OF_SMOKE:
        monkeypatch.setattr(module(page), "load", lambda profile, experiment: rows)
    module("gallery").opened.cache_clear()
    yield rows
    module("gallery").opened.cache_clear()


@pytest.mark.parametrize("page", OF_SMOKE)
def test_numbers_of_smoke_are_well_formed(page, smoke):
    found = module(page).numbers()
    assert malformed(found) == [] and set(GLUED.findall(text(page))) <= set(found)


def test_results(smoke):
    found = module("results").numbers()
    acr = smoke.groupby("attack")["radius"].mean()
    assert float(found["drop"]) == round(100 * (1 - acr["first_order"] / acr["none"]))
    assert float(found["beyond_drop"]) == round(100 * (1 - acr["first_order"] / acr["uniform"]))
    assert found["abstention_clean"] == "12.5"  # one point of eight


def test_gallery(smoke, digits):
    """Every pixel is brightened by 25 levels, so the poison is its own yardstick."""
    found = module("gallery").numbers()
    assert found["images"] == "5" and found["points"] == "8" and found["victims"] == "2"
    assert found["levels"] == found["on_black"] == "25" and found["brightened"] == "100"
    assert found["psnr"] == found["psnr_uniform"] and found["ssim"] == found["ssim_uniform"]
    black = 100 * (digits.x_train[digits.y_train == 8][:5] == 0).float().mean()
    assert float(found["black"]) == round(float(black))


def test_gallery_of_misled_points(smoke):
    gallery = module("gallery")
    instead = gallery.predicted_instead(smoke[smoke["attack"] == "first_order"])
    assert set(instead) == {"3"}
    misled = gallery.opened("smoke").misled
    assert len(misled) == 6 and 457 not in misled  # the last point has no radius to lose
