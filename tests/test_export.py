"""Exports are read back by other software, and no tampering passes the check."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from crafting import craft, load
from PIL import Image
from torchvision.datasets import ImageFolder

from pacd import data, poison_file
from pacd.data import ROOT
from pacd.poison_file import PoisonError
from study import export as exporting
from study.export import export, hash_npz, hash_pngs, png_names
from study.verify import main, verify


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "load", load)
        yield


@pytest.fixture(scope="module")
def poison(tmp_path_factory):
    return craft(tmp_path_factory.mktemp("poison") / "p.npz", dataset="mnist5k", train_size=80)


@pytest.fixture(scope="module")
def whole(poison):
    export(poison, poison.parent / "export")
    return poison.parent / "export"


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def test_numpy_and_image_folder_read_the_poisoned_training_set(poison, whole):
    clean = load("mnist5k", None, 0, 80)
    poisoned, _ = poison_file.apply(poison, clean)
    with np.load(whole / "dataset.npz") as file:
        arrays = dict(file)
    assert arrays["x_train"].dtype == np.uint8 and arrays["x_train"].shape == (80, 28, 28)
    assert (arrays["x_train"] == (poisoned.x_train * 255).round().squeeze(1).numpy()).all() and (
        arrays["y_train"] == clean.y_train.numpy()
    ).all()
    assert (arrays["x_test"] == (clean.x_test * 255).round().squeeze(1).numpy()).all() and (
        arrays["y_test"] == clean.y_test.numpy()
    ).all()
    facts = json.loads((whole / "manifest.json").read_text())
    moved = np.abs(
        arrays["x_train"].astype(int) - (clean.x_train * 255).round().squeeze(1).numpy()
    ).max((1, 2))
    assert moved.nonzero()[0].tolist() == facts["poisoned_indices"] and moved.max() == 25
    assert (
        facts["train_sha256"] == data.sha256(clean.x_train, clean.y_train)
        and facts["poison"]["dataset"] == facts["dataset"] == "mnist5k"
    )

    folder = ImageFolder(whole / "train")
    assert len(folder) == 80
    for path, label in folder.samples:
        row = int(Path(path).stem)
        with Image.open(path) as image:
            assert (
                image.mode == "L"
                and label == arrays["y_train"][row]
                and (np.asarray(image) == arrays["x_train"][row]).all()
            )


def test_an_export_is_a_dataset(whole):
    splits = data.load(str(whole / "dataset.npz"))
    with np.load(whole / "dataset.npz") as file:
        stored = {image.tobytes() for image in file["x_train"]}
    read = {
        (image * 255).round().to(torch.uint8).numpy().tobytes()
        for image in torch.cat([splits.x_train, splits.x_val])
    }
    assert read == stored and len(splits.x_val) == 8 and len(splits.x_test) == 500


def test_colours_and_more_than_ten_classes_keep_their_order(tmp_path):
    """Unpadded, ImageFolder would read class 10 as its second."""
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 256, (120, 8, 9, 3)).astype(np.uint8), np.arange(120) % 12
    np.savez(tmp_path / "rgb.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    poison = craft(
        tmp_path / "p.npz", dataset=str(tmp_path / "rgb.npz"), target_class=10, eps_linf=8 / 255
    )
    export(poison, tmp_path / "out")
    assert "L-inf 8/255 of 8/255 allowed" in verify(tmp_path / "out")
    folder = ImageFolder(tmp_path / "out" / "train")
    with np.load(tmp_path / "out" / "dataset.npz") as file:
        assert folder.targets == sorted(file["y_train"]) and file["x_train"].shape == (108, 8, 9, 3)
        for image, label in folder:
            rows = [
                row
                for row in (file["y_train"] == label).nonzero()[0]
                if (file["x_train"][row] == np.asarray(image)).all()
            ]
            assert len(rows) == 1


def test_a_class_without_images_has_no_png_folder(tmp_path):
    poison = craft(tmp_path / "p.npz", dataset="mnist5k", train_size=12, target_class=8)
    with pytest.raises(PoisonError, match="class . has no training image, .* use --no-png"):
        export(poison, tmp_path / "out")
    export(poison, tmp_path / "out", png=False)
    assert (
        "there are no PNGs" in verify(tmp_path / "out")
        and not (tmp_path / "out" / "train").exists()
    )


def npz(change):
    def tamper(folder):
        with np.load(folder / "dataset.npz") as file:
            arrays = dict(file)
        change(arrays)
        np.savez_compressed(folder / "dataset.npz", **arrays)

    return tamper


def manifest(change):
    def tamper(folder):
        facts = json.loads((folder / "manifest.json").read_text())
        change(facts)
        (folder / "manifest.json").write_text(json.dumps(facts))

    return tamper


def both(name, value):
    return manifest(
        lambda facts: (facts.update({name: value}), facts["poison"].update({name: value}))
    )


def png(change):
    return lambda folder: change(folder / png_names(np.load(folder / "dataset.npz")["y_train"])[7])


def swapped(arrays):
    arrays["y_train"][[0, 1]] = arrays["y_train"][[1, 0]]


def one_pixel(row_of, value):
    """The corner of every digit is 0, so ``value`` is its distance in steps."""

    def change(arrays):
        arrays["x_train"][
            row_of((arrays["y_train"] == 8).nonzero()[0], (arrays["y_train"] != 8).nonzero()[0]),
            0,
            0,
        ] = value

    return npz(change)


def brighter(path):
    with Image.open(path) as image:
        pixels = np.asarray(image).copy()
    pixels[0, 0] += 1
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    "tamper, sentence",
    [
        (
            one_pixel(lambda target, other: target[0], 26),
            r"row \d+ of x_train in .* leaves the eps ball \(26/255, allowed 25/255\)",
        ),
        (
            one_pixel(lambda target, other: target[1], 1),
            "row .* of x_train in .* is changed but not in poisoned_indices",
        ),
        (
            one_pixel(lambda target, other: other[0], 1),
            "row .* of x_train in .* is changed but not in poisoned_indices",
        ),
        (npz(swapped), "row 0 of y_train .* is not the original"),
        (
            npz(lambda a: a["x_test"].__setitem__((3, 0, 0), 1)),
            "row 3 of x_test .* is not the original",
        ),
        (
            npz(lambda a: a.update(x_train=a["x_train"][:-1])),
            r"x_train must be uint8 \(80, 28, 28\), not uint8 \(79, 28, 28\)",
        ),
        (
            npz(lambda a: a.update(x_train=a["x_train"] / 255)),
            "x_train must be uint8 .*, not float64",
        ),
        (npz(lambda a: a.pop("y_test")), "dataset.npz is missing or not a readable .npz"),
        (both("eps_linf", 0.05), r"leaves the eps ball \(25/255, allowed 12/255\)"),
        (both("target_class", 3), "row .* in poisoned_indices is not of target_class 3"),
        (both("train_size", 81), "made from other training data"),
        (both("eps_linf", 2.0), "eps_linf must be a number between 0 and 1, pixel units, not 2.0"),
        (
            manifest(lambda f: f.update(eps_linf=0.2)),
            "eps_linf must be as in the parameters of the poison",
        ),
        (
            manifest(lambda f: f.update(poisoned_indices=f["poisoned_indices"][::-1])),
            "poisoned_indices must be ascending rows below 80",
        ),
        (
            manifest(lambda f: f["poisoned_indices"].append(80)),
            "poisoned_indices must be ascending rows below 80",
        ),
        (
            manifest(lambda f: f["distortion"].update(psnr=40.0)),
            "distortion must be .*, not .*40.0",
        ),
        (png(Path.unlink), r"train/\d/07.png is missing"),
        (
            png(
                lambda path: path.rename(
                    path.parent.parent / f"{(int(path.parent.name) + 1) % 10}" / path.name
                )
            ),
            r"train/\d/07.png is missing",
        ),
        (
            png(lambda path: shutil.copy(path, path.with_name("99.png"))),
            r"train/\d/99.png is not part of the export",
        ),
        (png(brighter), r"train/\d/07.png is not the image of its row"),
        (
            png(lambda path: path.write_bytes(path.read_bytes()[:-40])),
            r"train/\d/07.png is not a readable PNG",
        ),
    ],
)
def test_tampering_is_named_even_with_forged_hashes(copy, tamper, sentence):
    tamper(copy)
    facts = json.loads((copy / "manifest.json").read_text())
    names = png_names(np.load(copy / "dataset.npz")["y_train"])
    facts["npz_sha256"] = hash_npz(copy)
    if all((copy / name).exists() for name in names):
        facts["png_sha256"] = hash_pngs(copy, names)
    facts["sha256"] = poison_file.seal(facts)
    (copy / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(PoisonError, match=sentence):
        verify(copy)


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


@pytest.mark.parametrize(
    "tamper, sentence",
    [
        (cut("dataset.npz"), "dataset.npz is missing or not a readable .npz"),
        (cut("manifest.json"), "manifest.json is not readable"),
        (
            lambda folder: (folder / "manifest.json").unlink(),
            "is not a whole export: it has no manifest.json",
        ),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "must be a JSON object"),
        (lambda folder: (folder / "dataset.npz").unlink(), "dataset.npz is missing"),
        (npz(lambda arrays: arrays.update(more=np.zeros(1))), "another hash than npz_sha256"),
        (
            png(lambda path: path.write_bytes(path.read_bytes() + b"0")),
            "another hash than png_sha256",
        ),
        (both("eps_linf", 0.2), "manifest.json was changed after it was written"),
        (both("dataset", "mnits"), "dataset must be one of mnist5k"),
    ],
)
def test_a_damaged_export_is_refused(copy, tamper, sentence):
    tamper(copy)
    with pytest.raises((PoisonError, data.DataError), match=sentence):
        verify(copy)


def test_every_flipped_bit_is_refused(poison, copy):
    """In a poison file, its manifest, and each file of an export, at 25 places each."""
    generator = np.random.default_rng(0)
    assert verify(poison) and verify(copy)
    for path in (
        poison,
        poison.with_suffix(".json"),
        copy / "dataset.npz",
        copy / "manifest.json",
        *sorted(copy.rglob("*.png"))[:1],
    ):
        content = path.read_bytes()
        for place in generator.integers(0, len(content), 25):
            damaged = bytearray(content)
            damaged[place] ^= 1 << generator.integers(8)
            path.write_bytes(damaged)
            with pytest.raises((PoisonError, data.DataError)):
                verify(poison if path.parent == poison.parent else copy)
        path.write_bytes(content)
    assert verify(poison) and verify(copy)


def test_a_truncated_poison_is_refused(poison, tmp_path):
    path = Path(shutil.copy(poison, tmp_path))
    with pytest.raises(PoisonError, match="there is no poison file .*p.json"):
        verify(path)
    shutil.copy(poison.with_suffix(".json"), tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PoisonError, match="not a readable poison file"):
        verify(path)


def test_a_poison_file_with_an_edited_budget_is_refused(poison, tmp_path):
    """A larger eps is no lie of the images, only of the manifest."""
    path = shutil.copy(poison, tmp_path / "p.npz")
    text = poison.with_suffix(".json").read_text()
    assert '"eps_linf": 0.1,' in text
    for edited, sentence in (
        ("0.2", "changed after it was written"),
        ("0.05", "leaves the eps ball"),
        ('"0.1"', "eps_linf must be a number"),
    ):
        path.with_suffix(".json").write_text(
            text.replace('"eps_linf": 0.1,', f'"eps_linf": {edited},')
        )
        with pytest.raises(PoisonError, match=sentence):
            verify(path)


def test_only_an_export_is_replaced(poison, copy, tmp_path):
    for content in ({"notes.txt": "mine"}, {"manifest.json": "{}", "train/0/0.png": "mine"}):
        folder = tmp_path / f"mine{len(content)}"
        for name, text in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for out in (folder, next(iter(folder.glob("*.*")))):
            with pytest.raises(
                PoisonError, match="OUT must be a new or empty folder, or an earlier export"
            ):
                export(poison, out)
        assert {
            str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()
        } == content
    brighter(copy / png_names(np.load(copy / "dataset.npz")["y_train"])[0])
    export(poison, copy)
    assert verify(copy)


def test_an_interrupted_export_leaves_no_export(poison, whole, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "write_json", interrupt)
    for out in (tmp_path / "new", shutil.copytree(whole, tmp_path / "old")):
        with pytest.raises(KeyboardInterrupt):
            export(poison, out)
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"] and verify(tmp_path / "old")


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_command_line_exports_and_verifies(poison, tmp_path):
    done = run("-m", "study.export", poison, tmp_path / "out", "--no-png")
    assert (
        done.returncode == 0
        and done.stdout.count("\n") == 1
        and "L-inf 25/255 of 25/255 allowed" in done.stdout
    ), done.stderr
    one_pixel(lambda target, other: other[0], 1)(tmp_path / "out")
    done = run("-m", "study.verify", tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (
        1,
        "",
        1,
    ) and "not in poisoned_indices" in done.stderr


def test_an_export_into_the_folder_where_one_is(poison, tmp_path, monkeypatch, capsys):
    """Empty at first, then that of an export; it stays the same folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path.stat().st_ino
    for _ in range(2):
        assert exporting.main([str(poison), "."]) is None
        assert "L-inf 25/255 of 25/255 allowed" in capsys.readouterr().out
        assert tmp_path.stat().st_ino == folder and Path.cwd() == tmp_path
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"dataset.npz", "train", "manifest.json"}


def test_a_data_set_of_ones_own_that_has_moved(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "load", data.load)  # a relative path is another file elsewhere
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    arrays = {"x_train": x, "y_train": np.arange(60) % 3, "x_test": x, "y_test": np.arange(60) % 3}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.savez("mine.npz", **arrays)
    poison = craft(tmp_path / "p.npz", dataset="mine.npz", target_class=1)
    monkeypatch.chdir(tmp_path)
    assert main(["p.npz"]).startswith("dataset must be one of mnist5k")
    moved = ["--dataset", "here/mine.npz"]
    assert main(["p.npz", *moved]) is exporting.main(["p.npz", "out", *moved]) is None
    assert main(["out"]).startswith("dataset must be") and main(["out", *moved]) is None
    np.savez("other.npz", **arrays | {"x_train": x[::-1]})
    for path in ("p.npz", "out"):
        assert "was made from other training data" in main([path, "--dataset", "other.npz"])
    assert poison.exists()


def test_a_poison_that_changes_no_pixel_is_no_poison(tmp_path):
    nothing = craft(tmp_path / "p.npz", dataset="mnist5k", train_size=80, eps_linf=0.001)
    for refused in (lambda: verify(nothing), lambda: export(nothing, tmp_path / "out")):
        with pytest.raises(PoisonError, match="must change at least one pixel, and in 8 bits"):
            refused()
    assert not (tmp_path / "out").exists()


def test_the_check_does_not_import_the_attack(poison):
    verified = f"assert main([{str(poison)!r}]) is None"
    done = run("-c", f"import sys; from study.verify import main; {verified}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert "study.verify" in modules and "pacd.attack" not in modules


def test_a_missing_file_is_one_sentence(tmp_path):
    none = str(tmp_path / "none.npz")
    assert main([none]).startswith("there is no poison file")
    assert exporting.main([none, str(tmp_path / "out")]).startswith("there is no poison file")
    assert not (tmp_path / "out").exists()
