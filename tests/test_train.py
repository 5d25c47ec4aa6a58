"""The training loop on a model of one weight, where every step is known."""

import math
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from pacd.losses import TRAINERS
from pacd.models import make_model
from pacd.train import Replay, train, warmup_of
from study.setup import augmentation

LR = 0.01
IMAGES = torch.arange(7.0).view(7, 1, 1, 1)  # each image is its number
LABELS = torch.arange(7)


class Weight(nn.Module):
    """One weight, in double precision."""

    def __init__(self, value=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value, dtype=torch.float64))


def run(loss, model=None, **changes):
    """Seven images in batches of three, so the third batch of an epoch holds one image."""
    model = Weight() if model is None else model
    setting = {"epochs": 4, "batch": 3, "lr": LR, **changes}
    return model, train(model, IMAGES, LABELS, loss, **setting)


def step_sizes(**changes):
    """Under a gradient of 1 Adam moves the weight by its step size exactly, up to its 1e-8."""
    places = []

    def slope(model, x, y, **rest):
        places.append(model.weight.item())
        return model.weight * 1.0

    model, _ = run(slope, **changes)
    places.append(model.weight.item())
    return [before - after for before, after in zip(places, places[1:])]


def test_a_constant_schedule_keeps_the_step_size():
    assert step_sizes(schedule="constant") == pytest.approx([LR] * 12, rel=1e-6)
    assert step_sizes() == step_sizes(schedule="constant")


def test_a_cosine_schedule_falls_to_zero():
    """Twelve steps: the first is whole, the seventh half, and a thirteenth would be 0."""
    sizes = step_sizes(schedule="cosine")
    closed = [LR * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    assert sizes == pytest.approx(closed, rel=1e-6)
    assert sizes[0] == pytest.approx(LR) and sizes[6] == pytest.approx(LR / 2)
    assert sizes[11] < 0.02 * LR


def test_a_schedule_of_thirds_falls_to_a_tenth_twice():
    """Twelve steps, so after four and after eight of them."""
    closed = [LR] * 4 + [LR / 10] * 4 + [LR / 100] * 4
    assert step_sizes(schedule="thirds") == pytest.approx(closed, rel=1e-6)


def test_sgd_has_a_momentum_of_nine_tenths():
    """Under a gradient of 1 its k-th step is lr (1 + 0.9 + .. + 0.9^(k - 1))."""
    closed = [LR * (1 - 0.9 ** (k + 1)) / 0.1 for k in range(12)]
    assert step_sizes(optimizer="sgd") == pytest.approx(closed)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(KeyError, match="linear"):
        run(lambda model, x, y, **rest: model.weight, schedule="linear")


def test_weight_decay_is_added_to_the_gradient():
    """At -1 / decay the two cancel and the weight stays; decay apart from the gradient moves it."""
    model, _ = run(lambda model, x, y, **rest: model.weight * 1.0, Weight(-4.0), weight_decay=0.25)
    assert model.weight.item() == -4.0


def seen_by(seed=0, **changes):
    """What the loss is given, batch by batch."""
    batches = []

    def loss(model, x, y, *, generator, epoch):
        batches.append((epoch, x.flatten().tolist(), y.tolist(), model.training))
        return model.weight * 0.0

    run(loss, seed=seed, **changes)
    return batches


def test_an_epoch_meets_every_image_once_in_an_order_of_its_own():
    batches = seen_by()
    orders = [[i for epoch, x, _, _ in batches if epoch == e for i in x] for e in range(4)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert [len(x) for _, x, _, _ in batches] == [3, 3, 1] * 4
    assert all(x == y and training for _, x, y, training in batches)
    assert seen_by() == batches != seen_by(seed=1)


def test_the_noise_of_a_loss_is_a_function_of_the_seed():
    def drawn(seed):
        draws = []

        def loss(model, x, y, *, generator, epoch):
            draws.append(torch.rand((), generator=generator).item())
            return model.weight * 0.0

        run(loss, seed=seed)
        return draws

    assert drawn(0) == drawn(0) and not set(drawn(0)) & set(drawn(1))
    assert len(set(drawn(0))) == 12


def test_the_history_is_the_mean_over_images():
    """A batch's loss is its mean image number; the mean of the batches' means would not be 3."""
    _, history = run(lambda model, x, y, **rest: model.weight * 0 + x.mean())
    assert history == pytest.approx([3.0] * 4)


def test_augmentation_is_of_images_alone_and_leaves_the_random_state():
    def augment(images):
        return images + 10 * torch.randint(1, 9, (1,))

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    batches, again, other = (seen_by(seed, augment=augment) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert batches == again != other
    plain = [labels for _, _, labels, _ in seen_by()]
    assert plain == [labels for _, _, labels, _ in batches]  # what it draws moves no image's turn
    shifts = [{i - label for i, label in zip(x, y)} for _, x, y, _ in batches]
    assert all(len(shift) == 1 and min(shift) >= 10 for shift in shifts)
    assert len(set.union(*shifts)) > 1


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 8, 12)])
@pytest.mark.parametrize("name", ["crop", "crop_flip"])
def test_crops_and_flips_are_those_of_torchvision_with_its_draws(name, shape):
    transforms = [v2.RandomCrop(shape[1:], padding=shape[1] // 8)]
    transforms += [v2.RandomHorizontalFlip()] * (name == "crop_flip")
    transform = v2.Compose(transforms)
    images = torch.rand(41, *shape).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(3)
    expected, after = torch.stack([transform(image) for image in images]), torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(augmentation(name, shape)(images), expected)
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize("name", TRAINERS)
def test_a_loss_depends_on_the_epoch_in_its_warmup_alone(name, digits):
    """A step that a GPU has captured is replayed in all later epochs."""
    x, y = digits.x_train[:8], digits.y_train[:8]
    model = make_model("lenet", digits.shape, 10, 0)
    loss = partial(TRAINERS[name], sigma=0.5)
    warmup = warmup_of(loss)
    assert warmup == {"smoothadv": 10}.get(name, 0)

    def at(epoch):
        return loss(model, x, y, generator=torch.Generator().manual_seed(0), epoch=epoch).item()

    assert at(warmup) == at(warmup + 7) == at(None)
    assert not warmup or at(0) != at(warmup - 2) != at(warmup)
    assert not warmup or warmup_of(partial(loss, warmup=3)) == 3
    assert name != "macer" or warmup_of(partial(loss, deferral=4)) == 4


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_training(wrong):
    def loss(model, x, y, *, generator, epoch):
        return model.weight * 0 + (wrong if epoch == 1 and 3 in y else 1.0)

    with pytest.raises(FloatingPointError, match="is not finite in epoch 2; lower lr, or mend"):
        run(loss)


# --- which steps a GPU replays, with a stand-in for its graphs ---


class Graph:
    """What a captured graph holds: its buffers, and the place of its result."""

    def register_generator_state(self, generator):
        self.generator = generator

    def replay(self):
        images, labels, value = self.held
        value.copy_(images.sum() + labels.sum())


@pytest.fixture
def capturing(monkeypatch):
    """Torch's graphs are the stand-in; the list holds the graph that is being captured."""
    now, stream = [], SimpleNamespace(wait_stream=lambda other: None)

    @contextmanager
    def capture(graph):
        now.append(graph)
        yield
        now.pop()

    names = {"Stream": lambda device: stream, "current_stream": lambda: stream}
    names |= {"stream": lambda stream: nullcontext(), "CUDAGraph": Graph, "graph": capture}
    for name, stand_in in names.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return now


def test_a_graph_serves_whole_batches_and_is_captured_anew_in_each_epoch_of_a_warmup(capturing):
    """Two whole batches and a ragged one an epoch; the first three steps are plain."""
    done = []

    def step(images, labels, epoch):
        done.append(("captured" if capturing else "plain", epoch))
        if not capturing:
            return images.sum() + labels.sum()
        assert capturing[0].generator is generator
        capturing[0].held = images, labels, torch.zeros(())
        return capturing[0].held[2]

    generator = torch.Generator()
    replay = Replay(step, generator, warmup=2)
    for epoch in range(5):
        for size in (3, 3, 1):
            images, labels = torch.rand(size, 1, 1, 1), torch.arange(size) + epoch
            expected = (images.sum() + labels.sum()).item()
            assert replay(images, labels, epoch).item() == pytest.approx(expected)
    plain = [("plain", 0)] * 3
    for epoch in range(1, 5):
        plain += [("captured", epoch)] * (epoch <= 2) + [("plain", epoch)]
    assert done == plain


def test_without_an_epoch_one_graph_serves_all_steps(capturing):
    """As attacks call it: the step is that of the epochs after a warm-up."""
    done = []

    def step(images, labels, epoch=None):
        done.append(bool(capturing))
        if capturing:
            capturing[0].held = images, labels, torch.zeros(())
            return capturing[0].held[2]
        return images.sum() + labels.sum()

    replay = Replay(step, torch.Generator(), warmup=2)
    for _ in range(6):
        images, labels = torch.rand(3, 1, 1, 1), torch.arange(3)
        assert replay(images, labels).item() == pytest.approx((images.sum() + 3).item())
    assert done == [False] * 3 + [True]


def test_a_step_that_fits_no_graph_says_how_to_do_without(capturing):
    def step(images, labels, epoch):
        if capturing:
            raise RuntimeError("operation not permitted when stream is capturing")
        return images.sum()

    replay = Replay(step, torch.Generator(), warmup=0)
    batch = torch.rand(3, 1, 1, 1), torch.arange(3), 0
    for _ in range(3):
        replay(*batch)
    with pytest.raises(RuntimeError, match="fits no CUDA graph; set PACD_GRAPHS=0 to train"):
        replay(*batch)
