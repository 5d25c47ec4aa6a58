"""What an attack spends, counted and measured from outside.

Images through each kind of pass, what these cost beside each other, seconds and memory.
"""

import time
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from pacd.hypergradient import SOLVERS
from pacd.smoothing import soft_radius

COPIES = 2  # of each image in the pass of the soft radius that is measured
REPEATS = 5  # of each pass; the fastest counts


class Count:
    """Images through each kind of pass, counted by what the attack is given.

    ``gradient``: of the training loss by the weights. ``radius``: of the soft radius by the
    weights; its noisy copies. ``product``: one Hessian-vector product. ``mixed``: the product with
    the mixed derivative, one for each hypergradient.

    Parameters
    ----------
    loss : callable
        ``loss(model, x, y, generator=..., ...)``; the attack takes ``loss`` in its place.
    make_model : callable
        ``seed -> torch.nn.Module``; the attack takes ``make_model`` in its place.
    """

    def __init__(self, loss, make_model):
        self._loss, self._make_model = loss, make_model
        self.batch = 0  # images in the last training loss
        self.images = dict.fromkeys(("gradient", "radius", "product", "mixed"), 0)

    def loss(self, model, x, y, **options):
        self.images["gradient"] += len(x)
        self.batch = len(x)
        return self._loss(model, x, y, **options)

    def make_model(self, seed):
        model = self._make_model(seed)
        model.register_forward_pre_hook(self._evaluated)
        return model

    def _evaluated(self, model, arguments):
        if not model.training:  # only the outer objective is taken in eval mode
            self.images["radius"] += len(arguments[0])

    def solver(self, solve):
        """The solver with its products counted; each is over the images of the last loss."""

        def counted(draw, b, **options):
            def counted_draw():
                product = draw()

                def counted_product(v):
                    self.images["product"] += self.batch
                    return product(v)

                return counted_product

            self.images["mixed"] += self.batch
            return solve(counted_draw, b, **options)

        return counted

    @contextmanager
    def all_solvers(self):
        """Count the products of every solver that an attack may choose, as long as this lasts."""
        solvers = dict(SOLVERS)
        SOLVERS.update({name: self.solver(solve) for name, solve in solvers.items()})
        try:
            yield
        finally:
            SOLVERS.update(solvers)

    def evaluations(self, units):
        """Gradient evaluations so far; ``units`` are the costs of :func:`unit_costs`."""
        return sum(units[kind] * images for kind, images in self.images.items())


def unit_costs(model, loss, x, y, sigma):
    """What one image costs in each kind of pass, over what it costs in the gradient.

    The operations are those of convolutions and matrix products; they decide, because they repeat.
    Seconds are shown beside them.

    Parameters
    ----------
    model : torch.nn.Module
    loss : callable
        The inner problem, ``loss(model, x, y, generator=...)``.
    x, y : tensors of shape (N, C, H, W) and (N,)
    sigma : float
        Noise of the soft radius, pixel units.

    Returns
    -------
    operations, seconds : dict
        A ratio for each kind of :class:`Count`.
    """
    passes = _passes(model, loss, x, y, sigma)
    operations, seconds = {}, {}
    for kind, run in passes.items():
        copies = COPIES if kind == "radius" else 1
        with FlopCounterMode(display=False) as counter:
            run()
        operations[kind] = counter.get_total_flops() / copies
        seconds[kind] = min(seconds_of(run, x.device) for _ in range(REPEATS)) / copies
    return _over_gradient(operations), _over_gradient(seconds)


def _passes(model, loss, x, y, sigma):
    """A function without arguments for each kind of pass."""
    generator, parameters = torch.Generator(x.device).manual_seed(0), list(model.parameters())
    u = x.clone().requires_grad_()
    value = loss(model, u, y, generator=generator)
    graph = torch.autograd.grad(value, parameters, create_graph=True)
    direction = [torch.randn_like(p) for p in parameters]

    def gradient():
        return torch.autograd.grad(loss(model, x, y, generator=generator), parameters)

    def radius():
        value = soft_radius(model, x, y, sigma, COPIES, generator).mean()
        return torch.autograd.grad(value, parameters)

    def product():
        return torch.autograd.grad(graph, parameters, direction, retain_graph=True)

    def mixed():
        return torch.autograd.grad(graph, u, direction, retain_graph=True)

    return {"gradient": gradient, "radius": radius, "product": product, "mixed": mixed}


def _over_gradient(costs):
    return {kind: cost / costs["gradient"] for kind, cost in costs.items()}


def seconds_of(run, device):
    started = clock(device)
    run()
    return clock(device) - started


def clock(device):
    """Seconds, after all that was asked of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory(device):
    """Peak memory in MB since :func:`reset_peak_memory`.

    Of the tensors on a GPU; of the whole process (Linux) on a CPU, where it holds libraries and
    data too.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def reset_peak_memory(device):
    """Start to look for the peak from here."""
    reference = Path("/proc/self/clear_refs")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif reference.exists():
        reference.write_text("5")  # resets VmHWM; see proc(5)
