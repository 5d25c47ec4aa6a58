"""Poison of another make: each form comes back as it went out, and bad input is one sentence."""

import re
import shutil

import numpy as np
import pytest
import torch
from crafting import craft
from PIL import Image

from pacd import data, poison_file
from pacd.poison_file import PoisonError
from study import bring, export, flat
from study.setup import check_target
from study.verify import verify

pytestmark = pytest.mark.usefixtures("quick_digits")


@pytest.fixture(scope="module")
def poison(tmp_path_factory, quick_digits):
    """Of 80 digits, so that most rows of the data set are no training images here."""
    return craft(tmp_path_factory.mktemp("poison") / "p.npz", dataset="mnist5k", train_size=80)


def brought(path, out, *options):
    """The poison file of what was brought, and what was said."""
    said = bring.main([str(path), str(out), "--train-size", "80", *options])
    assert said is None, said
    return poison_file.read(out)


def same(read, poison):
    """Rows, 8-bit images and budget of both are the same."""
    rows, _, eight, facts = read
    wanted, _, images, _ = poison_file.read(poison)
    order = np.argsort(wanted)
    assert (rows == wanted[order]).all() and (eight == images[order]).all()
    assert facts["parameters"]["eps_linf"] == pytest.approx(25 / 255)
    assert facts["parameters"]["target_class"] == 8 and facts["parameters"]["dataset"] == "mnist5k"


@pytest.mark.parametrize("option", ["--flat", "--flat-all"])
def test_a_flat_folder_comes_back(poison, tmp_path, capsys, option):
    assert export.main([str(poison), str(tmp_path / "flat"), option]) is None
    names = [int(path.stem) for path in (tmp_path / "flat").iterdir()]
    x, y = flat.in_order("mnist5k")
    poisoned = len(poison_file.read(poison)[0])
    if option == "--flat-all":
        assert sorted(names) == list(range(5000))
    else:  # rows of the data set: of the class there, and near its images
        assert len(names) == poisoned and {y[row].item() for row in names} == {8}
        for row in names:
            image = np.asarray(Image.open(tmp_path / "flat" / f"{row}.png")).astype(int)
            change = np.abs(image - (x[row, 0] * 255).round().int().numpy()).max()
            assert 0 < change <= 25
    same(brought(tmp_path / "flat", tmp_path / "again.npz"), poison)
    said = capsys.readouterr().out
    assert f"of the rest {poisoned} change, of class 8" in said and "holds: " in said
    assert "L-inf 25/255 of 25/255 allowed" in said


@pytest.mark.parametrize("form", ["uint8 with index", "float with index", "npy of all"])
def test_arrays_come_back(poison, tmp_path, form):
    rows, floats, eight, _ = poison_file.read(poison)
    x, y = flat.in_order("mnist5k")
    clean = data.load("mnist5k", train_size=80)
    places = flat.matched(clean.x_train, clean.y_train, x, y)[rows].numpy()
    if form == "npy of all":
        whole = (x * 255).round().byte().numpy()[:, 0]
        whole[places] = eight[:, 0]
        np.save(tmp_path / "a.npy", whole)
        same(brought(tmp_path / "a.npy", tmp_path / "again.npz"), poison)
        return
    images = eight if form.startswith("uint8") else floats
    np.savez(tmp_path / "a.npz", index=places, images=images.transpose(0, 2, 3, 1))
    read = brought(tmp_path / "a.npz", tmp_path / "again.npz", "--eps-linf", "0.1")
    order = np.argsort(rows)
    assert (read[0] == rows[order]).all() and (read[2] == eight[order]).all()
    if form.startswith("float"):
        assert (read[1] == floats[order]).all() and read[3]["parameters"]["eps_linf"] == 0.1


def test_an_export_and_a_pair_of_folders_come_back(poison, tmp_path):
    """The names of a pair's files are anybody's: its originals say which rows they are."""
    export.export(poison, tmp_path / "export")
    same(brought(tmp_path / "export", tmp_path / "a.npz"), poison)
    clean = data.load("mnist5k", train_size=80)
    pixels = (clean.x_train * 255).round().byte().numpy()[:, 0]
    for place, file in enumerate(sorted((tmp_path / "export" / "train").glob("*/*.png"))):
        row, folder = int(file.stem), file.parent.name
        for kind, image in (("clean", pixels[row]), ("poisoned", np.asarray(Image.open(file)))):
            (tmp_path / kind / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / kind / folder / f"some-{place}.png")
    same(brought(tmp_path / "poisoned", tmp_path / "b.npz", "--clean", f"{tmp_path}/clean"), poison)
    verify(tmp_path / "a.npz")
    verify(tmp_path / "b.npz")


def by_mean_and_back(x):
    mean, deviation = np.float32(0.1307), np.float32(0.3081)
    return ((x - mean) / deviation * deviation + mean).clip(0, 1)


@pytest.mark.parametrize("stored", [by_mean_and_back, np.float16], ids=["normalised", "float16"])
@pytest.mark.parametrize("steps", [25, 25.5])
def test_an_image_that_only_rounding_moves_is_not_changed(tmp_path, stored, steps):
    """Nearly all images move in floats; in 8 bits those of the class alone, by 25 steps."""
    x, y = (part.numpy() for part in flat.in_order("mnist5k"))
    clean = data.load("mnist5k", train_size=80)
    brighter = np.where((y == 8)[:, None, None, None], (x + np.float32(steps / 255)).clip(0, 1), x)
    moved = stored(brighter)[:, 0]
    assert (moved != x[:, 0])[y != 8].any((1, 2)).mean() > 0.9
    np.save(tmp_path / "a.npy", moved)
    rows, floats, eight, facts = brought(tmp_path / "a.npy", tmp_path / "p.npz")
    assert list(rows) == (clean.y_train == 8).nonzero().flatten().tolist()
    origin = (clean.x_train[rows] * 255).round().numpy()
    assert (eight == (origin + 25).clip(0, 255)).all()
    told = facts["parameters"]
    assert told["target_class"] == 8 and told["eps_linf"] == pytest.approx(steps / 255, abs=3e-4)
    if steps == 25:
        assert told["eps_linf"] == 25 / 255 and (floats == eight / np.float32(255)).all()
    change = (eight - origin).reshape(len(rows), -1) / 255
    assert facts["distortion"]["l2"] == pytest.approx(np.sqrt((change**2).sum(1)).mean())
    assert facts["distortion"]["linf"] == pytest.approx(25 / 255)


@pytest.mark.parametrize(
    "steps, sentence",
    [
        (0.4, "a.npy must change a training image, and changes none."),
        (0.7, "eps_linf must be 1/255 or more, an 8-bit step, not 0.70 of it: no 8-bit pixel wo"),
    ],
)
def test_a_change_that_no_8_bit_pixel_shows_is_refused(tmp_path, steps, sentence):
    x, _ = flat.in_order("mnist5k")
    np.save(tmp_path / "a.npy", (x + steps / 255).clamp(max=1).numpy()[:, 0])
    said = bring.main([str(tmp_path / "a.npy"), str(tmp_path / "p.npz"), "--train-size", "80"])
    assert sentence in said and not (tmp_path / "p.npz").exists()


def test_poison_of_all_classes_is_called_so_and_any_class_may_be_certified(tmp_path, capsys):
    x, y = flat.in_order("mnist5k")
    images = ((x - 8 / 255).clamp(min=0) * 255).round().byte().numpy()[:, 0]
    np.save(tmp_path / "all.npy", images)
    rows, _, _, facts = brought(tmp_path / "all.npy", tmp_path / "p.npz")
    said = capsys.readouterr().out
    assert "5000 images read; 4920 are no training images here, and of the rest 80 change" in said
    assert "of classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9: poison of all classes" in said
    assert "of several classes, L-inf 8/255 of 8/255 allowed" in said
    assert list(rows) == list(range(80)) and facts["parameters"]["target_class"] is None
    check_target(facts, 3)
    export.export(tmp_path / "p.npz", tmp_path / "out")
    assert "of several classes" in verify(tmp_path / "out")
    poisoned, _ = poison_file.apply(tmp_path / "p.npz", data.load("mnist5k", train_size=80))
    assert poisoned.x_train.max() == pytest.approx(247 / 255)


def npz(**arrays):
    def write(folder):
        np.savez(folder / "a.npz", **arrays)
        return folder / "a.npz"

    return write


def folder(name, array):
    def write(folder):
        (folder / "flat").mkdir()
        Image.fromarray(array).save(folder / "flat" / name)
        return folder / "flat"

    return write


def npy(array):
    def write(folder):
        np.save(folder / "a.npy", array)
        return folder / "a.npy"

    return write


def test_pngs_count_however_their_ending_is_written(tmp_path):
    for name, level in (("3.PNG", 30), ("1.png", 10), (".hidden", 0)):
        with open(tmp_path / name, "wb") as file:
            Image.fromarray(np.full((28, 28), level, np.uint8)).save(file, "PNG")
    rows, images = flat.read(tmp_path)
    assert rows == [1, 3] and (255 * images[:, 0, 0, 0]).round().tolist() == [10, 30]


def test_names_that_are_shifted_by_a_row_are_told(digits, tmp_path):
    """Allowed with a budget of 1, and most likely a mistake."""
    x, _ = flat.in_order("mnist5k")
    images = (255 * x[100:140, 0]).round().to(torch.uint8).numpy()
    images[:, :4, :4] = 255  # a patch

    def said(first):
        np.savez(tmp_path / "a.npz", index=np.arange(40) + first, images=images)
        told = {"dataset": "mnist5k", "data_root": None, "split_seed": 0, "train_size": None}
        told |= {"path": str(tmp_path / "a.npz"), "poison_file": str(tmp_path / "p.npz")}
        told |= {"clean": None, "eps_linf": 1.0}
        return bring.bring(bring.BringSettings.check(told))

    assert "nearer to another image" not in said(100)
    told = re.search(
        r"rest (\d+) change.*; (\d+) of these are nearer to another image's", said(101)
    )
    assert told and told[1] == told[2]


def palette(folder):
    """A digit whose pixels are places in a palette of bright greys."""
    picture = Image.fromarray(GREY[0] + 1, mode="P")
    picture.putpalette([200] * 768)
    (folder / "flat").mkdir()
    picture.save(folder / "flat" / "1.png")
    return folder / "flat"


GREY = np.zeros((2, 28, 28), np.uint8)
BAD = [
    (lambda folder: folder / "none", "PATH must be a folder, an .npz or an .npy, and there is no "),
    (npz(images=GREY), "a.npz must be an .npz with index and images, or an .npy of images (KeyE"),
    (npz(index=np.array([0, 0]), images=GREY), "must name one row for each image, and none twice"),
    (npz(index=np.array([0]), images=GREY), "must name one row for each image, and none twice"),
    (npz(index=np.array([0, 5000]), images=GREY), "must name rows below 5000, as mnist5k has"),
    (npz(index=np.array([0.5, 1]), images=GREY), "index must be whole numbers, one for each imag"),
    (npz(index=np.arange(2), images=GREY + 2.0), "floats must be in [0, 1], pixel units"),
    (npz(index=np.arange(2), images=GREY - np.nan), "floats must be in [0, 1], pixel units"),
    (npz(index=np.arange(2), images=GREY.astype(int)), "images must be uint8 or floats of shape"),
    (npz(index=np.arange(2), images=GREY[:, 1:]), "must hold images of 1x28x28 (C x H x W), not "),
    (npz(index=np.arange(0), images=GREY[:0]), "must name rows below 5000, as mnist5k has"),
    (folder("cat.png", GREY[0]), "must hold PNGs named by their rows, such as 123.png"),
    (folder("1.jpg", GREY[0]), "must hold PNGs named by their rows, such as 123.png, and nothing"),
    (folder("1.png", GREY[0, 1:]), "must hold images of 1x28x28 (C x H x W), not 1x27x28"),
    (folder("1.png", GREY[0] > 1), "must be 8-bit, grey or RGB, and of the shape (28, 28) of 1."),
    (lambda folder: folder, "must hold PNGs named by their rows, such as 123.png"),
    (npy(GREY), "must hold images of all 5000 rows of mnist5k in order, not 2; an .npz may name r"),
    (npy(np.repeat(GREY + 255, 2500, 0)), "eps_linf must be given where images change by as"),
    (palette, "1.png must be grey or RGB, and holds places in a palette"),
]


@pytest.mark.parametrize("write, sentence", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, write, sentence):
    said = bring.main([str(write(tmp_path)), str(tmp_path / "out.npz"), "--train-size", "80"])
    assert sentence in said and "\n" not in said and not (tmp_path / "out.npz").exists()


def test_what_changes_nothing_or_too_much_is_refused(poison, tmp_path):
    x, _ = flat.in_order("mnist5k")
    np.save(tmp_path / "same.npy", (x * 255).round().byte().numpy()[:, 0])
    out = str(tmp_path / "out.npz")
    said = bring.main([str(tmp_path / "same.npy"), out, "--train-size", "80"])
    assert said.endswith("same.npy must change a training image, and changes none.")
    assert export.main([str(poison), str(tmp_path / "flat"), "--flat"]) is None
    told = ["--train-size", "80", "--eps-linf", "0.05"]
    said = bring.main([str(tmp_path / "flat"), out, *told])
    assert said == ("eps_linf must be at least 0.0980 (25.0/255), the largest change, not 0.05.")
    assert bring.main([str(tmp_path / "flat"), "out.txt"]).startswith("poison_file must be the pa")
    assert bring.main(["x", out, "--train-size", "0"]).startswith("train_size must be None for all")


def test_a_large_change_is_taken_where_it_is_meant(tmp_path, capsys):
    x, _ = flat.in_order("mnist5k")
    pixels = (x * 255).round().byte().numpy()[:, 0]
    np.save(tmp_path / "a.npy", 255 - pixels)
    facts = brought(tmp_path / "a.npy", tmp_path / "p.npz", "--eps-linf", "1")[3]
    assert facts["parameters"]["eps_linf"] == 1
    chosen = np.flatnonzero(flat.in_order("mnist5k")[1].numpy() < 2)
    few = np.where(pixels[chosen] > 0, pixels[chosen] - 1, 0).astype(np.uint8)
    np.savez(tmp_path / "few.npz", index=chosen, images=few)
    brought(tmp_path / "few.npz", tmp_path / "q.npz")
    assert "of classes 0, 1: poison of several classes, so vict" in capsys.readouterr().out


def test_words_for_classes_stand_in_the_order_of_the_originals(poison, tmp_path):
    """As an ImageFolder of all classes numbers them, though the poison has one alone."""
    export.export(poison, tmp_path / "export")
    clean = data.load("mnist5k", train_size=80)
    words = ["zero", "won", "two", "three", "four", "five", "six", "seven", "ate", "nine"]
    order = sorted(words)
    for folder in order:
        (tmp_path / "clean" / folder).mkdir(parents=True)
    # Class 8 is called by the word in place 8 of the alphabet.
    (tmp_path / "poisoned" / order[8]).mkdir(parents=True)
    for file in (tmp_path / "export" / "train").glob("8/*.png"):
        image = (clean.x_train[int(file.stem), 0] * 255).round().byte().numpy()
        Image.fromarray(image).save(tmp_path / "clean" / order[8] / file.name)
        shutil.copy(file, tmp_path / "poisoned" / order[8])
    same(brought(tmp_path / "poisoned", tmp_path / "b.npz", "--clean", f"{tmp_path}/clean"), poison)


def test_folders_that_are_no_pair_and_an_export_of_other_data(poison, tmp_path):
    out, train = str(tmp_path / "out.npz"), tmp_path / "export" / "train"
    export.export(poison, tmp_path / "export")
    told = ["--train-size", "80", "--clean"]
    assert f"{tmp_path} must hold the original of each image" in bring.main(
        [str(train), out, *told, str(tmp_path)]
    )
    shutil.copytree(train, tmp_path / "blank")
    for file in (tmp_path / "blank").glob("*/*.png"):
        Image.fromarray(GREY[0]).save(file)
    assert "must hold training images of the data set, and has none" in bring.main(
        [str(train), out, *told, str(tmp_path / "blank")]
    )
    said = bring.main([str(tmp_path / "export"), out])
    assert "was made from other training data; dataset, split_seed and train_size must" in said


def test_twice_the_same_image_is_used_once_each():
    x = torch.zeros(3, 1, 2, 2)
    x[2] = 1
    y = torch.tensor([1, 1, 1])
    assert sorted(flat.matched(x[:2], y[:2], x, y).tolist()) == [0, 1]
    assert flat.matched(x, y, x[:1], y[:1]).tolist() == [0, -1, -1]
    assert flat.matched(x[2:], y[2:] + 1, x, y).tolist() == [-1]  # of another label


def test_a_flat_folder_is_written_beside_nothing(poison, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    assert "OUT must be a new or empty folder" in export.main(
        [str(poison), str(tmp_path), "--flat"]
    )
    with pytest.raises(PoisonError, match="OUT must be a new or empty folder"):
        export.export_flat(poison, tmp_path / "kept.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
