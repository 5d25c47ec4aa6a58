"""From checked settings to the objects an experiment needs: device, data, trainer, network."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from pacd.attack import METHODS, method, poison
from pacd.controls import LEARNED, PATTERNS, craft, learn
from pacd.data import DataError, Splits, load
from pacd.direct_search import SEARCHES, search
from pacd.int8 import check_device, quantised
from pacd.losses import TRAINERS
from pacd.models import make_model
from study.checked import SettingsError, options_of


class Setup(NamedTuple):
    """What settings mean: splits on the device, the trainer's loss, and ``make_model(seed)``."""

    splits: Splits
    loss: callable
    make_model: callable


def setup(settings):
    """Choose the device, load the data, bind the trainer and the network to the settings.

    Raises
    ------
    SettingsError, DataError
        If the device is absent, an option of the trainer is unknown or impossible, the data lack images of the class in one of their parts, or their images are too small for the network.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device must be auto or cpu here, not 'cuda': torch finds no GPU.")
    device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(settings.threads)
    loss = trainer(settings.trainer, settings.trainer_options, settings.sigma)
    splits = load(
        settings.dataset, settings.data_root, settings.split_seed, settings.train_size
    ).to(device)
    if settings.target_class >= splits.classes:
        raise DataError(
            f"target_class must be below {splits.classes} for {settings.dataset}, not {settings.target_class}."
        )
    for part, labels in (
        ("training", splits.y_train),
        ("validation", splits.y_val),
        ("test", splits.y_test),
    ):
        if settings.target_class not in labels:
            raise DataError(
                f"target_class must have {part} images, and {settings.dataset} has none of class {settings.target_class} among its {len(labels)}."
            )

    def model(seed):
        return make_model(
            settings.architecture, splits.shape, splits.classes, seed, settings.normalisation
        ).to(device)

    try:
        make_model(settings.architecture, splits.shape, splits.classes, 0).eval()(
            torch.zeros(1, *splits.shape)
        )
    except RuntimeError as error:
        size, reason = "x".join(map(str, splits.shape)), str(error).splitlines()[0]
        raise SettingsError(
            f"architecture must be one for images of {size} (C x H x W), not {settings.architecture!r} ({reason})."
        ) from error
    return Setup(splits, loss, model)


def chosen_attack(name, options):
    """The named attack or control, ``attack(splits, make_model, loss, **setting) -> index, images, trace``."""
    if name in METHODS:
        return partial(poison, method=method(name, options))
    if name in LEARNED:
        return learn(name, options)
    if name in SEARCHES:
        return search(options)
    if options:
        raise SettingsError(
            f"attack_options must be empty for the control {name!r}, not {options}."
        )
    return partial(craft, pattern=PATTERNS[name])


def augmentation(name, shape):
    """Random crop after padding by an eighth of the side (4 pixels for CIFAR-10), and flip; None for none.

    v2 transforms draw once for a whole tensor, so they are applied image by image.
    """
    if name == "none":
        return None
    from torchvision.transforms import v2

    crop = v2.RandomCrop(shape[1:], padding=max(1, shape[1] // 8))
    transform = {"crop": crop, "crop_flip": v2.Compose([crop, v2.RandomHorizontalFlip()])}[name]
    return lambda images: torch.stack([transform(image) for image in images])


def trainer(name, options, sigma):
    """The loss of a trainer with its options bound."""
    loss = TRAINERS[name]
    options_of(loss, after="epoch").check(options, f"trainer_options of {name}: ")
    return partial(loss, sigma=sigma, **options)


def certified_network(precision, splits, sigma):
    """``network(model)``, what is certified of a trained model: itself, or its int8 version.

    The ranges of the latter are those on at most 1,000 validation images, under noise from a generator that no certificate uses.
    """
    if precision != "int8":
        return lambda model: model
    check_device(splits.x_val.device)
    images = splits.x_val[:: max(1, -(-len(splits.x_val) // 1000))]
    noise = np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    return partial(quantised, images=images + sigma * torch.from_numpy(noise))


@torch.inference_mode()
def accuracy(model, splits, target_class):
    """Accuracy of the network itself, without noise, on all test images and on those of the target class."""
    correct = torch.cat([model(x).argmax(1) for x in splits.x_test.split(1000)]) == splits.y_test
    return {
        "all": correct.float().mean().item(),
        "target": correct[splits.y_test == target_class].float().mean().item(),
    }
