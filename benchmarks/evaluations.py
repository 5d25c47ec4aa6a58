"""What an attack spends, counted and measured from outside: images through each kind of pass, their unit costs, seconds, memory."""

import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from pacd.smoothing import soft_radius


class Count:
    """Images through each kind of pass, counted from outside the attack, by what the attack is given.

    ``gradient``: of the training loss by the weights. ``radius``: of the soft radius by the weights; its noisy copies. ``product``:
    one Hessian-vector product. ``mixed``: the product with the mixed derivative, one for each hypergradient.
    """

    def __init__(self, loss, make_model):
        self.given, self.fresh, self.batch = loss, make_model, 0
        self.images = dict.fromkeys(("gradient", "radius", "product", "mixed"), 0)

    def loss(self, model, x, y, **options):
        self.images["gradient"] += len(x)
        self.batch = len(x)
        return self.given(model, x, y, **options)

    def make_model(self, seed):
        model = self.fresh(seed)
        model.register_forward_pre_hook(self._evaluated)
        return model

    def _evaluated(self, model, arguments):
        if not model.training:  # only the outer objective is taken in eval mode
            self.images["radius"] += len(arguments[0])

    def solver(self, solve):
        """The solver with its products counted; each runs over the images of the last training loss."""

        def counted(draw, b):
            def counting():
                product = draw()

                def times(v):
                    self.images["product"] += self.batch
                    return product(v)

                return times

            self.images["mixed"] += self.batch
            return solve(counting, b)

        return counted

    def evaluations(self, units):
        return sum(units[kind] * images for kind, images in self.images.items())


def unit_costs(model, loss, x, y, sigma):
    """Floating-point operations and seconds an image of each kind of pass, over those of the gradient (two dicts).

    The operations are those of convolutions and matrix products; they decide, because they repeat. Seconds are shown beside them.
    """
    generator, parameters = torch.Generator(x.device).manual_seed(0), list(model.parameters())
    u = x.clone().requires_grad_()
    graph = torch.autograd.grad(
        loss(model, u, y, generator=generator), parameters, create_graph=True
    )
    direction = [torch.randn_like(p) for p in parameters]
    passes = {
        "gradient": lambda: torch.autograd.grad(loss(model, x, y, generator=generator), parameters),
        "radius": lambda: torch.autograd.grad(
            soft_radius(model, x, y, sigma, 2, generator).mean(), parameters
        ),
        "product": lambda: torch.autograd.grad(graph, parameters, direction, retain_graph=True),
        "mixed": lambda: torch.autograd.grad(graph, u, direction, retain_graph=True),
    }
    operations, seconds = {}, {}
    for kind, run in passes.items():
        copies = 2 if kind == "radius" else 1
        with FlopCounterMode(display=False) as counter:
            run()
        operations[kind] = counter.get_total_flops() / copies
        seconds[kind] = min(seconds_of(run, x.device) for _ in range(5)) / copies
    return (
        {kind: value / table["gradient"] for kind, value in table.items()}
        for table in (operations, seconds)
    )


def seconds_of(run, device):
    started = clock(device)
    run()
    return clock(device) - started


def clock(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def memory(device, reset=False):
    """Peak memory in MB since the last reset: of the tensors on a GPU, of the whole process (Linux) on a CPU, where it holds libraries and data too."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats() if reset else None
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM; see proc(5)
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6
