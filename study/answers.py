"""What brought functions answer is checked, and what they were shown stays as it was.

Each function here takes a brought one and returns one that is called alike. It is shown copies, as
a function may change its input in place, and an answer of another kind is one sentence.
"""

from dataclasses import replace
from functools import wraps

import torch

from study.parameters import SettingsError


def _require(kept, parameter, wanted, name):
    if not kept:
        raise SettingsError(f"{parameter} must return {wanted}, and {name} does not.")


def of_loss(name, loss):
    """A trainer's loss, a scalar with a gradient; on a GPU never captured and replayed."""

    @wraps(loss)
    def checked(model, x, y, **told):
        value = loss(model, x.clone(), y.clone(), **told)
        scalar = torch.is_tensor(value) and value.shape == () and value.is_floating_point()
        graph = scalar and (value.requires_grad or not torch.is_grad_enabled())
        _require(graph, "trainer", "a scalar tensor with a gradient", name)
        return value

    checked.capturable = False
    return checked


def of_network(name, build):
    """A network's builder, a new module each time."""
    made = []  # the last one, whose weights another seed's may not share

    def checked(shape, classes):
        model = build(shape, classes)
        own = isinstance(model, torch.nn.Module) and not _shared(model, *made)
        _require(own, "architecture", "a new torch.nn.Module each time", name)
        made[:] = [model]
        return model

    return checked


def _shared(*models):
    """Whether two models, or some of their tensors, are the same."""
    places = [{id(part) for part in (m, *m.parameters(), *m.buffers())} for m in models]
    return len(places) == 2 and bool(places[0] & places[1])


@torch.inference_mode()
def require_logits(name, model, shape):
    """Refuse a network that ends in a softmax: the losses have one, and two learn little."""
    outputs = model.eval()(torch.zeros(2, *shape))
    sums = torch.allclose(outputs.sum(1), torch.ones(2), atol=1e-4)
    probabilities = sums and bool((outputs >= 0).all())
    _require(not probabilities, "architecture", "logits, not probabilities", name)


def require_trainable(name, network):
    """Refuse a network with frozen weights: they are drawn anew, and would stay as drawn."""
    learns = all(weight.requires_grad for weight in network.parameters())
    wanted = "parameters that all learn (what is fixed is a buffer, or a first layer)"
    _require(learns, "architecture", wanted, name)


def of_first_layer(name, build):
    """A builder of a first layer, a new one each time, which keeps the images' shape."""
    made = []  # the last one, whose state another victim's may not share

    def checked(shape):
        layer, images = build(shape), torch.zeros(2, *shape)
        module = isinstance(layer, torch.nn.Module)
        kept = module and layer.eval()(images).shape == images.shape
        _require(kept, "normalisation", "a module that keeps the shape of images", name)
        _require(not _shared(layer, *made), "normalisation", "a new module each time", name)
        made[:] = [layer]
        return layer

    return checked


def of_curator(name, clean):
    """A mitigation: images in [0, 1] and labels among those that there were."""

    def checked(x, y):
        answer = clean(x.clone(), y.clone())
        wanted = "float32 images (m, C, H, W) in [0, 1] and labels (m,) of the given classes"
        _require(_cleaned(answer, x, y), "curation", wanted, name)
        return answer

    return checked


def _cleaned(answer, x, y):
    try:
        images, labels = answer
        same = images.dtype == x.dtype and images.shape == (len(labels), *x.shape[1:])
        same = same and labels.dtype == y.dtype and labels.shape == (len(images),) != (0,)
        inside = bool(((images >= 0) & (images <= 1)).all())
        return same and inside and bool(torch.isin(labels, y).all())
    except (TypeError, ValueError, AttributeError):
        return False


def of_pattern(name, pattern):
    """A pattern, finite and broadcast to the images that it changes."""

    def checked(splits, index, eps, generator):
        change = pattern(_copied(splits), index.clone(), eps, generator)
        wanted = "a finite change, (m, C, H, W) or broadcast to it"
        _require(_fits(change, (len(index), *splits.shape)), "attack", wanted, name)
        return change

    return checked


def _fits(change, shape):
    try:
        whole = change.is_floating_point() and bool(change.isfinite().all())
        return whole and torch.broadcast_shapes(change.shape, shape) == shape
    except (RuntimeError, AttributeError):
        return False


def of_attack(name, attack):
    """An attack: ``fraction`` of the class, each row once, images in [0, 1], and a trace."""

    def checked(problem, **told):
        answer = attack(problem._replace(splits=_copied(problem.splits)), **told)
        rows = "index (m,) int64, distinct rows of the class, as many as fraction says"
        wanted = f"{rows}, images (m, C, H, W) in [0, 1] and a list, the trace"
        _require(_poisons(answer, problem), "attack", wanted, name)
        return answer

    return checked


def _poisons(answer, problem):
    labels = problem.splits.y_train
    asked = problem.poisoned_rows(torch.Generator(labels.device))  # one draw; all are as many
    try:
        index, images, trace = answer
        rows = index.dtype == torch.int64 and index.shape == asked.shape
        rows = rows and bool(((index >= 0) & (index < len(labels))).all())
        rows = rows and len(index.unique()) == len(index)
        own = rows and bool((labels[index] == problem.target_class).all())
        whole = images.dtype == torch.float32 and images.shape[1:] == problem.splits.shape
        inside = whole and bool(((images >= 0) & (images <= 1)).all())
        return own and inside and len(images) == len(index) and isinstance(trace, list)
    except (TypeError, ValueError, AttributeError):
        return False


def _copied(splits):
    return replace(splits, **{name: value.clone() for name, value in vars(splits).items()})
