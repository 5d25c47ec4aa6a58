"""A pack for a node without a network: what it holds, what the node keeps, what is filed of it."""

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from importlib.metadata import packages_distributions

import numpy as np
import pytest
from packaging.utils import canonicalize_name
from PIL import Image

from pacd.data import ROOT, DataError
from pacd.poison_file import seal
from study import grid, keep, node, pack
from study.parameters import SettingsError
from study.unpack import UnpackError, contents, unpack

PROFILE = """
kept: true
experiments:
  one: {victim: {seed: [0, 1, 2]}, poison: {attack: [none, uniform]}}
  other: {victim: {dataset: fashion_mnist}, poison: {attack: none}}
"""


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The grid of that profile, in a study whose results are under ``tmp_path``."""
    (tmp_path / "mine.yaml").write_text(PROFILE)
    monkeypatch.setattr(grid, "PROFILES", tmp_path)
    for module in (grid, node, pack):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return grid.load("mine")


def made(plan, run):
    """``{place: bytes}`` of a run's files."""
    if run in plan.poisons:
        return sealed(plan, run, plan.poisons[run], b"images")
    rows = b"".join(f"{seed},8\n".encode() for seed in plan.runs[run]["seeds"])
    return sealed(plan, run, plan.runs[run], b"seed,index\n" + rows)


def sealed(plan, run, parameters, content):
    """A result with a manifest that belongs to it."""
    facts = {"parameters": parameters}
    facts["sha256"] = seal(facts, content)
    return dict(zip(plan.files(run), [json.dumps(facts).encode(), content], strict=True))


def put(root, content):
    for place, one in content.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(one)


# --- the order of worth ---


def test_what_stands_first_is_worth_most_and_poison_as_much_as_its_first_victim(plan):
    victims = [*plan.experiments["one"], *plan.experiments["other"]]
    assert [plan.worth[run] for run in victims] == [7, 6, 5, 4, 3, 2, 1]
    (poison,) = plan.poisons
    assert plan.runs[victims[1]]["poison_file"] and plan.worth[poison] == 6


# --- what is carried ---


def test_wheels_are_of_what_runs_need_and_the_node_lacks():
    names = {pin.split("==")[0] for pin in pack.lacking("3.12")}
    assert {"papermill", "ipykernel", "pydantic-core", "snakemake", "mlxtend"} <= names
    assert "typing-extensions" in names
    assert not names & {"torch", "numpy", "scipy", "pandas", "pulp", "debugpy", "jupyter-book"}


def test_what_runs_import_is_there_or_carried():
    """All packages outside Python that the set-up of a run has loaded."""
    told = (
        "import json, sys, study.setup, study.settings, study.results, study.node, study.checkpoint"
    )
    told += "; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True)
    owners = packages_distributions()
    loaded = {name for module in json.loads(done.stdout) for name in owners.get(module, [])}
    loaded = {canonicalize_name(name) for name in loaded} - {"pacd"}
    carried = {pin.split("==")[0] for pin in pack.lacking("3.12")}
    assert {"torch", "pydantic", "safetensors"} <= loaded
    assert loaded - carried <= pack.closure(pack.THERE, pack.environment("3.12"))


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """A folder of torchvision's files, two of them gzipped."""
    raw = tmp_path / "torchvision" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in pack.IDX:
        if file.startswith("train"):
            (raw / file).write_bytes(file.encode())
        else:
            (raw / f"{file}.gz").write_bytes(gzip.compress(file.encode()))
    monkeypatch.setenv("PACD_DATA", str(tmp_path / "torchvision"))
    return raw


def test_data_go_gzipped_and_come_as_torchvision_reads_them(digits, plan, tmp_path):
    pack.write(tmp_path / "one.tar.gz", pack.data_files("mnist"))
    carried = contents(tmp_path / "one.tar.gz")
    assert set(carried) == {f"data/downloads/MNIST/raw/{file}.gz" for file in pack.IDX}
    put(tmp_path, carried)
    node.unfold(tmp_path / "data" / "downloads")
    raw = tmp_path / "data" / "downloads" / "MNIST" / "raw"
    assert {path.name: path.read_text() for path in raw.iterdir()} == {f: f for f in pack.IDX}


def test_data_that_are_not_here_are_refused(digits, tmp_path):
    next(digits.glob("train*")).unlink()
    for name, sentence in (
        ("mnist", "there is no .*train-.*, gzipped or not; download it"),
        ("fashion_mnist", "there is no .*FashionMNIST"),
        ("cifar10", "DATA must hold mnist, fashion_mnist or the path of an .npz .*'cifar10'"),
        (str(tmp_path / "absent.npz"), "DATA must hold"),
    ):
        with pytest.raises(DataError, match=sentence):
            pack.data_files(name)


def test_scans_become_pixels(tmp_path):
    """Grey images of one shade each, sorted by class; each keeps its label, and its part."""
    shades, files = [10, 60, 110, 160, 210], []
    for shade in shades:
        Image.new("RGB", (8, 8), (shade,) * 3).save(file := io.BytesIO(), "JPEG")
        files.append(file.getvalue())
    size = os.path.commonprefix(files)
    parts = [file[len(size) :] for file in files]
    bytes_of = {"header": size, "scans": b"".join(parts)}
    arrays = {name: np.frombuffer(one, np.uint8) for name, one in bytes_of.items()}
    arrays |= {"lengths": [len(part) for part in parts], "labels": np.arange(5)}
    np.savez(tmp_path / "grey-scans.npz", **arrays, is_test=[False, False, True, False, True])
    node.unfold(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["grey.npz"]
    with np.load(tmp_path / "grey.npz") as made:
        assert sorted(made["y_train"]) == [0, 1, 3] and sorted(made["y_test"]) == [2, 4]
        for part in ("train", "test"):
            x, y = made[f"x_{part}"], made[f"y_{part}"]
            assert x.shape == (len(y), 8, 8, 3) and x.dtype == np.uint8
            assert np.abs(x.mean((1, 2, 3)) - np.array(shades)[y]).max() < 2


def test_a_kept_profile_carries_its_results_and_the_poison_of_what_is_missing(plan, tmp_path):
    assert pack.made_files("mine") == {}
    (poison,), runs = plan.poisons, plan.experiments["one"]
    for run in (poison, *runs[:3]):
        put(tmp_path, made(plan, run))
    carried = {place for run in (poison, *runs[:3]) for place in plan.files(run)}
    assert set(pack.made_files("mine")) == carried
    for run in runs:
        put(tmp_path, made(plan, run))  # now nobody reads the poison any more
    assert not set(pack.made_files("mine")) & set(plan.files(poison))


def test_a_pack_holds_the_code_and_no_more_than_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "wheels", lambda python: [])
    path = tmp_path / "smoke.tar.gz"
    pack.pack("smoke", [], "3.12", path)
    names = set(contents(path))
    needed = ("run.sh", "COMMIT", "Snakefile", "pacd/train.py", "study/node.py")
    assert {f"pack/{name}" for name in needed} <= names
    assert not [name for name in names if name.startswith(("pack/book/", "pack/data/"))]
    path.unlink()
    monkeypatch.setattr(pack, "MOST", 1000)
    with pytest.raises(SettingsError, match="the pack may be .* name fewer data sets with DATA"):
        pack.pack("smoke", [], "3.12", path)
    assert not path.exists()


# --- on the node ---


def test_runs_without_their_data_are_left_out(plan, tmp_path):
    downloads = tmp_path / "data" / "downloads"
    runs, without = node.chosen(plan, downloads)
    assert (runs, without) == (plan.experiments["one"], 1)
    (downloads / "FashionMNIST").mkdir(parents=True)
    assert node.chosen(plan, downloads) == ([*runs, *plan.experiments["other"]], 0)


def test_an_archive_holds_what_is_finished_and_nothing_of_what_is_not(plan, tmp_path):
    (poison,), runs = plan.poisons, plan.experiments["one"]
    out = tmp_path / "out"
    archives = node.Archives(plan, runs, out)
    archives.keep()
    assert not out.exists()
    put(tmp_path, made(plan, runs[0]))
    manifest, rows = made(plan, runs[1]).items()
    put(tmp_path, dict([manifest]))
    archives.keep()
    assert contents(out / "rows.tar.gz") == made(plan, runs[0])
    put(tmp_path, dict([rows]) | made(plan, poison))
    archives.keep()
    assert contents(out / "rows.tar.gz") == made(plan, runs[0]) | made(plan, runs[1])
    assert contents(out / f"{poison}.tar.gz") == made(plan, poison)


PAPERMILL = f"""#!{sys.executable} -S
import hashlib, json, pathlib, sys, time
parameters = json.loads(sys.argv[sys.argv.index("-y") + 1])
path, (seed,) = pathlib.Path(parameters["rows_file"]), parameters["seeds"]
facts, rows = {{"parameters": parameters}}, f"seed,index\\n{{seed}},8\\n"
both = rows + json.dumps(facts)
facts["sha256"] = hashlib.sha256(both.encode()).hexdigest()
path.with_suffix(".json").write_text(json.dumps(facts))
if seed == 2:
    time.sleep(100)
path.write_text(rows)
"""


def test_a_stopped_node_has_left_whole_rows(tmp_path, monkeypatch):
    """The third of three victims is at work when the node is told to stop."""
    tree, out, root = (tmp_path / name for name in ("tree", "out", "root"))
    left = shutil.ignore_patterns(".*", "data", "book", "__pycache__", "tests", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=left)
    one = "experiments: {one: {victim: {seed: [0, 1, 2]}, poison: {attack: none}}}"
    (tree / "profiles" / "mine.yaml").write_text(f"kept: true\n{one}")
    (tree / "data" / "downloads").mkdir(parents=True)
    (tree / "site" / "bin").mkdir(parents=True)
    (tree / "site" / "installed").touch()
    (tree / "site" / "bin" / "papermill").write_text(PAPERMILL)
    (tree / "site" / "bin" / "papermill").chmod(0o755)
    shutil.copy(tree / "study" / "run.sh", tree)
    python = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    line = ["bash", str(tree / "run.sh"), "mine", "100", str(out)]
    running = subprocess.Popen(line, env={**os.environ, "JOBS": "1", "PATH": python})
    rows, end = out / "rows.tar.gz", time.monotonic() + 60
    while not (rows.exists() and len(contents(rows)) == 4) and time.monotonic() < end:
        time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) != 0
    monkeypatch.setattr(grid, "PROFILES", tree / "profiles")
    assert unpack(rows, "mine", root) == (2, 0)
    filed = sorted((root / "data" / "results" / "mine").glob("*.csv"))
    assert [path.read_text() for path in filed] == ["seed,index\n0,8\n", "seed,index\n1,8\n"]


# --- what is filed ---


def archive(path, content):
    pack.write(path, content)
    return path


def test_results_are_filed_once(plan, tmp_path):
    (poison,), run = plan.poisons, plan.experiments["one"][0]
    for one in (poison, run):
        path, root = archive(tmp_path / "a.tar.gz", made(plan, one)), tmp_path / "root"
        assert unpack(path, "mine", root) == (1, 0)
        assert unpack(path, "mine", root) == (0, 1)
        assert {place: (root / place).read_bytes() for place in plan.files(one)} == made(plan, one)


def test_other_rows_are_never_overwritten(plan, tmp_path):
    first, second = plan.experiments["one"][:2]
    put(tmp_path, {plan.files(second)[-1]: b"seed,index\n0,9\n"})
    path = archive(tmp_path / "a.tar.gz", made(plan, first) | made(plan, second))
    with pytest.raises(UnpackError, match="must be absent or the same, and other rows are there"):
        unpack(path, "mine", tmp_path)
    assert not (tmp_path / plan.files(first)[0]).exists()
    assert (tmp_path / plan.files(second)[-1]).read_text() == "seed,index\n0,9\n"


def test_rows_in_a_kept_table_are_there(plan, tmp_path, monkeypatch):
    """And others in their place are refused."""
    monkeypatch.setattr(keep.grid, "load", lambda profile: plan)
    run = plan.experiments["one"][0]
    path = archive(tmp_path / "a.tar.gz", made(plan, run))
    assert unpack(path, "mine", tmp_path) == (1, 0) and keep.keep("mine") == 1
    assert not (tmp_path / plan.files(run)[-1]).exists()
    assert unpack(path, "mine", tmp_path) == (0, 1)
    other = sealed(plan, run, plan.runs[run], b"seed,index\n0,9\n")
    with pytest.raises(UnpackError, match="must be absent or the same, and other rows"):
        unpack(archive(path, other), "mine", tmp_path)


def planted(plan, what):
    """What an archive holds in which something is wrong."""
    (poison,), run = plan.poisons, plan.experiments["one"][0]
    content = made(plan, run)
    manifest, rows = plan.files(run)
    changed = plan.runs[run] | {"n": 7}
    wrong = {
        "outside": {"../away.csv": b""},
        "elsewhere": {"data/results/other/rows.csv": b""},
        "no manifest": {manifest: None},
        "no rows": {rows: None},
        "no json": {manifest: b"{"},
        "no parameters": {manifest: b"{}"},
        "parameters": {manifest: json.dumps({"parameters": changed}).encode()},
        "seeds": sealed(plan, run, plan.runs[run], b"seed,index\n1,8\n"),
        "half a row": sealed(plan, run, plan.runs[run], content[rows][:-2]),
        "empty": sealed(plan, run, plan.runs[run], b""),
        "other rows": {rows: content[rows].replace(b"8", b"9")},
        "poison": {**made(plan, poison), plan.files(poison)[-1]: b"other images"},
    }[what]
    content |= wrong
    return {place: one for place, one in content.items() if one is not None}


@pytest.mark.parametrize(
    "what, sentence",
    [
        ("outside", "mine.yaml must hold a run for each file, not ../away.csv"),
        ("elsewhere", "must hold a run for each file"),
        ("no manifest", "must have all of its files, and lacks .*json"),
        ("no rows", "must have all of its files, and lacks .*csv"),
        ("no json", "must be JSON"),
        ("no parameters", "must have parameters in its manifest"),
        ("parameters", "n must be 1000, as its profile says, not 7"),
        ("seeds", r"as many rows for each of the seeds \[0\]"),
        ("half a row", "must have whole rows"),
        ("empty", "rows must be a table"),
        ("other rows", "the hash of result and manifest must be"),
        ("poison", "the hash of result and manifest must be"),
    ],
)
def test_what_is_not_whole_or_not_asked_for_is_refused(plan, tmp_path, what, sentence):
    path = archive(tmp_path / "a.tar.gz", planted(plan, what))
    with pytest.raises(UnpackError, match=sentence):
        unpack(path, "mine", tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_cut_or_odd_archive_is_refused(plan, tmp_path):
    path = archive(tmp_path / "a.tar.gz", made(plan, plan.experiments["one"][0]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnpackError, match="must be a whole archive"):
        unpack(path, "mine", tmp_path / "root")
    with tarfile.open(path, "w:gz") as odd:
        link = tarfile.TarInfo("data/results/mine/a.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        odd.addfile(link)
    with pytest.raises(UnpackError, match="may hold plain files only, not data/results/mine/a.csv"):
        unpack(path, "mine", tmp_path / "root")
