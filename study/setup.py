"""From checked settings to the objects an experiment needs: data, trainer, network, attack."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file

from pacd import poison_file as files
from pacd.approxgrad import PUBLISHED, ApproxGrad, approxgrad
from pacd.attack import METHODS, Method, Problem, poison
from pacd.controls import LEARNED, PATTERNS, craft, learned
from pacd.curation import mitigation
from pacd.data import DataError, Splits, load, sha256
from pacd.direct_search import SEARCHES, Search, direct_search
from pacd.int8 import check_device, quantised, safe_margin, supported
from pacd.losses import TRAINERS
from pacd.models import MODELS, NORMALISATIONS, make_model
from pacd.votes import COMPILE_FROM, Votes
from study import answers, named
from study.bfloat16 import in_bfloat16, rounded
from study.parameters import SettingsError, check_options


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
        If the device is absent, an option of the trainer is unknown or impossible, the data lack
        images of the class in one of their parts, or their images are too small for the network.
    """
    loss = trainer(settings.trainer, settings.trainer_options, settings.sigma)
    if getattr(settings, "training_precision", "float32") == "bfloat16":
        loss = in_bfloat16(loss)
    splits = _data(settings)
    _bring(settings.normalisation, NORMALISATIONS, named.FIRST, answers.of_first_layer)
    options = settings.architecture, splits.shape, splits.classes
    for _ in range(2):  # refused before any computing: a builder may hand out one layer twice
        first = make_model(*options, 0, settings.normalisation)
    answers.require_trainable(settings.architecture, first[1:])
    answers.require_logits(settings.architecture, first, splits.shape)
    device = splits.x_train.device

    def model(seed):
        return make_model(*options, seed, settings.normalisation).to(device)

    return Setup(splits, loss, model)


def _data(settings):
    """The splits on the device, if the class and the network fit them."""
    device = chosen_device(settings.device)
    torch.set_num_threads(settings.threads)
    full_float32()
    data = settings.dataset, settings.data_root, settings.split_seed, settings.train_size
    splits = load(*data).to(device)
    _bring(settings.architecture, MODELS, named.NETWORK, answers.of_network)
    if settings.target_class is not None:
        _check_class(settings, splits)
    _check_size(settings, splits)
    return splits


def _bring(name, table, form, checked):
    """Give a brought function its place among the others, where make_model looks."""
    if named.is_path(name):
        table[name] = checked(name, named.function(name, {}, form))


def trained(settings):
    """The splits and a network of another make, with its own weights, to be certified.

    Raises
    ------
    SettingsError, DataError
        As :func:`setup`, or if the weights are no such file or of another network.
    """
    splits = _data(settings)
    model = MODELS[settings.architecture](splits.shape, splits.classes)
    try:
        model.load_state_dict(load_file(settings.weights_file))
    except (OSError, SafetensorError) as error:
        raise SettingsError(f"weights_file must be a .safetensors file ({error}).") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        network = f"weights_file must be of the network {settings.architecture}"
        raise SettingsError(f"{network}, and is not ({reason}).") from error
    return splits, model.eval().to(splits.x_train.device)


def full_float32():
    """No TF32: convolutions in training would round to ten bits, and certificates do not."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def chosen_device(name):
    """``cpu`` or ``cuda``; auto takes a GPU where there is one."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise SettingsError("device must be auto or cpu here, not 'cuda': torch finds no GPU.")
    return "cuda" if name != "cpu" and there else "cpu"


def _check_class(settings, splits):
    target, dataset = settings.target_class, settings.dataset
    if target >= splits.classes:
        allowed = f"below {splits.classes} for {dataset}"
        raise DataError(f"target_class must be {allowed}, not {target}.")
    parts = {"training": splits.y_train, "validation": splits.y_val, "test": splits.y_test}
    for part, labels in parts.items():
        if target not in labels:
            lacking = f"none of class {target} among its {len(labels)}"
            raise DataError(f"target_class must have {part} images, and {dataset} has {lacking}.")


def _check_size(settings, splits):
    try:
        for _ in range(2):  # a builder may hand out the same network twice
            model = make_model(settings.architecture, splits.shape, splits.classes, 0)
        answer = tuple(model.eval()(torch.zeros(2, *splits.shape)).shape)
        if answer != (2, splits.classes):
            raise RuntimeError(f"of two images it makes {answer}, not (2, {splits.classes})")
    except SettingsError:
        raise
    except Exception as error:  # a brought network may raise anything
        size, reason = "x".join(map(str, splits.shape)), f"{error}".splitlines()[:1]
        fitting = f"one for images of {size} (C x H x W)"
        wrong = f"{settings.architecture!r} ({' '.join(reason) or type(error).__name__})"
        raise SettingsError(f"architecture must be {fitting}, not {wrong}.") from error


def trainer(name, options, sigma):
    """The loss of a trainer with its options bound."""
    loss = named.function(name, TRAINERS, named.LOSS)
    options = check_options(loss, options, f"trainer_options of {name}: ", after="epoch")
    bound = partial(loss, sigma=sigma, **options)
    return answers.of_loss(name, bound) if named.is_path(name) else bound


def curator(name, make_model):
    """The named mitigation, ``clean(x, y) -> x, y``; see :func:`pacd.curation.mitigation`."""
    if not named.is_path(name):
        return mitigation(name, make_model)
    return answers.of_curator(name, named.function(name, {}, named.CURATION))


def problem_of(settings):
    """The bilevel problem of settings, :class:`pacd.attack.Problem`."""
    splits, loss, make_model = setup(settings)
    budget = settings.target_class, settings.eps_linf, getattr(settings, "fraction", 1.0)
    return Problem(splits, make_model, loss, settings.sigma, *budget)


def chosen_attack(name, options):
    """The named attack or control, ``attack(problem, steps=..., seed=..., checkpoint=...)``.

    Returns
    -------
    callable
        It returns index, images and trace as :func:`pacd.attack.poison` does.

    Raises
    ------
    SettingsError
        If an option is unknown or impossible.
    """
    where = f"attack_options of {name}: "
    if name in PATTERNS or named.is_path(name):
        return _by_function(name, options, where)
    if name in SEARCHES:
        options = check_options(Search, options, where)
        return partial(direct_search, method=replace(SEARCHES[name], **options))
    if name in PUBLISHED:
        options = check_options(ApproxGrad, options, where)
        return partial(approxgrad, method=replace(PUBLISHED[name], **options))
    options = check_options(Method, options, where)
    if name in METHODS:
        return partial(poison, method=replace(METHODS[name], **options))
    if "objective" in options:
        allowed = "may not hold 'objective': it is always 'training'"
        raise SettingsError(f"attack_options of the control {name!r} {allowed}.")
    loss, method = LEARNED[name]
    return partial(learned, trainer=loss, method=replace(method, **options))


def _by_function(name, options, where):
    """A fixed pattern, or a brought attack."""
    found = named.function(name, PATTERNS, named.PATTERN, named.ATTACK)
    if named.fits(found, named.PATTERN):
        options = check_options(found, options, where, after="generator")
        pattern = partial(found, **options)
        brought = named.is_path(name)
        return partial(craft, pattern=answers.of_pattern(name, pattern) if brought else pattern)
    options = check_options(found, options, where, after="checkpoint")
    return answers.of_attack(name, partial(found, **options))


def poisoned(settings, splits):
    """The splits that victims train on, and what the manifest of their rows says of the poison."""
    data = {"data_sha256": hash_of(splits)}
    if settings.poison_file is None:
        return splits, data | {"poison": None, "distortion": None, "poison_seconds": 0.0}
    clean = splits
    splits, facts = files.apply(settings.poison_file, clean, settings.eight_bit)
    check_target(facts, settings.target_class)
    changed_rows(splits, clean)
    said = {"poison": facts["parameters"], "distortion": facts.get("distortion")}
    return splits, data | said | {"poison_seconds": facts.get("seconds", 0.0)}


def hash_of(splits):
    """Hash of the clean data, training and test: equal for all victims that can be compared."""
    images = torch.cat([splits.x_train, splits.x_test])
    return sha256(images, torch.cat([splits.y_train, splits.y_test]))


def check_target(facts, target_class):
    """Refuse to certify another class than the poisoned one, unless all are."""
    of_poison = facts["parameters"]["target_class"]
    allowed = f"{of_poison}, the class of this poison file"
    files.require(
        of_poison in (None, target_class), f"target_class must be {allowed}, not {target_class}"
    )


def changed_rows(poisoned, splits):
    """Which training images a poison changes, bool (N,).

    Raises
    ------
    PoisonError
        If it changes none, as one whose eps is below an 8-bit step.
    """
    changed = (poisoned.x_train != splits.x_train).flatten(1).any(1)
    reason = "and this one changes none, as one whose eps_linf is below an 8-bit step"
    files.require(changed.any(), f"poison_file must change at least one pixel, {reason}")
    return changed


def augmentation(name, shape):
    """Random crop after padding by an eighth of the side (4 pixels for CIFAR-10), and flip.

    None for none. The draws are those of torchvision's v2 transforms, applied image by image; here
    all images are cut out at once, as a GPU is slow at small things.
    """
    if name == "none":
        return None
    _, height, width = shape
    pad, flips = max(1, height // 8), name == "crop_flip"

    def places():
        """Of one image: its first row and column, and whether it is mirrored."""
        corner = torch.randint(0, 2 * pad + 1, (2,)).tolist()
        return *corner, flips and torch.rand(1).item() < 0.5

    def augment(images):
        drawn = torch.tensor([places() for _ in images], device=images.device)
        top, left, mirrored = drawn[:, :, None].unbind(1)  # (N, 1) each
        along = torch.arange(width, device=images.device).expand(len(images), -1)
        columns = left + torch.where(mirrored == 1, width - 1 - along, along)
        rows = top + torch.arange(height, device=images.device)
        padded = F.pad(images, (pad, pad, pad, pad)).movedim(1, 3)  # (N, H, W, C)
        image = torch.arange(len(images), device=images.device)[:, None, None]
        return padded[image, rows[:, :, None], columns[:, None]].movedim(3, 1).contiguous()

    return augment


def voting(settings, splits):
    """``votes(model)`` at test points of the class, or of all, whose rows are returned too.

    Raises
    ------
    SettingsError
        If the network has no version of the precision.
    """
    points = chosen_points(splits.y_test, settings.target_class, settings.points)
    pair = quick_network(settings, splits, len(points))
    options = {"batch": settings.certify_batch, "compiled": settings.compiled}

    def votes(model):
        return Votes(model, splits.x_test[points], splits.classes, **pair(model), **options)

    return votes, points


def chosen_points(labels, target_class, count):
    """Rows of so many test points, (P,): the first of a class, or spread over all of them.

    Spread evenly in the order of their classes, so that a test set sorted by class, or by turns,
    gives each class its share.
    """
    if target_class is not None:
        return (labels == target_class).nonzero().flatten()[:count]
    by_class = labels.argsort(stable=True)
    count = min(count or len(labels), len(labels))
    places = torch.arange(count, device=labels.device) * len(labels) // count
    return by_class[places].sort().values


def _of_class(splits, target_class):
    """Which test points are of a class, bool (N,); all where it is None."""
    every = torch.ones_like(splits.y_test, dtype=torch.bool)
    return every if target_class is None else splits.y_test == target_class


def quick_network(settings, splits, points):
    """``pair(model)``: the network that votes before it, and its margin; or neither.

    On a CPU it is of integers, on a GPU its products are in bfloat16. Ranges and margin come from
    at most 1,000 validation images, under noise from a generator that no certificate uses. ``auto``
    pairs where so many votes pay for compiling, and the device and the network allow it.
    """
    precision, images = settings.precision, splits.x_val
    on_gpu = images.is_cuda
    pays = points * settings.n >= COMPILE_FROM and settings.compiled is not False
    if precision == "auto":
        precision = "mixed" if pays and (on_gpu or supported(images.device)) else "float32"
    if precision == "float32":
        return lambda model: {}
    if precision == "int8" or not on_gpu:
        check_device(images.device)
    images = images[:: max(1, -(-len(images) // 1000))]
    noise = np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    images = images + settings.sigma * torch.from_numpy(noise).to(images.device)

    def pair(model):
        try:
            first = rounded(model) if on_gpu else quantised(model, images)
        except ValueError:
            if settings.precision == "auto":
                return {}
            raise
        if precision == "int8":
            _require_agreement(model, first, images)
        margin = safe_margin(model, first, images) if precision == "mixed" else 0.0
        return {"quick": first, "margin": margin}

    return pair


@torch.inference_mode()
def _require_agreement(model, quick, images, least=0.8):
    """SettingsError where the integer network is another one, which would be certified."""
    same = torch.cat([model(x).argmax(1) == quick(x).argmax(1) for x in images.split(500)])
    share = same.float().mean().item()
    if share < least:
        found = f"whose 8-bit version answers alike on {100 * share:.0f} % of noisy images"
        raise SettingsError(f"precision must be float32 or mixed for this network, {found}.")


@torch.inference_mode()
def right(model, splits):
    """1 where the network itself, without noise, is right about a test image, else 0; (N,)."""
    answers = torch.cat([model(x).argmax(1) for x in splits.x_test.split(1000)])
    return (answers == splits.y_test).float()


def accuracy(model, splits, target_class):
    """Accuracy of the network itself, without noise: on all test images, and on the class."""
    correct = right(model, splits)
    of_class = _of_class(splits, target_class)
    return {"all": correct.mean().item(), "target": correct[of_class].mean().item()}
