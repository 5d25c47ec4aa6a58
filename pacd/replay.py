"""A GPU replays its training steps: to launch small kernels takes longer than to run them."""

import inspect
import os

import torch

EPOCHS = ("warmup", "deferral")  # a loss's parameters: epochs in which it is another


def replayed(step, generator, loss):
    """The step of a loss, as a :class:`Replay` on a GPU unless ``PACD_GRAPHS=0`` says no."""
    if generator.device.type != "cuda" or os.environ.get("PACD_GRAPHS") == "0":
        return step
    return Replay(step, generator, warmup_of(loss))


def warmup_of(loss):
    """Epochs in which a loss depends on the epoch, by its parameters."""
    told = inspect.signature(loss).parameters
    return max((told[name].default for name in EPOCHS if name in told), default=0)


WARM = 3  # plain steps before a capture: they make Adam's state, and compile what comes late


class Replay:
    """A training step that is captured as a CUDA graph, and replayed.

    Called like the step; the first batches and those of another size run plainly.

    Parameters
    ----------
    step : callable
        ``step(images, labels, epoch) -> scalar``; it may not wait for the GPU.
    generator : torch.Generator
        Of the noise in the step.
    warmup : int
        Epochs in each of which the step is another, so that it is captured anew.
    """

    def __init__(self, step, generator, warmup):
        self.step, self.generator, self.warmup = step, generator, warmup
        self.stream = torch.cuda.Stream(generator.device)
        self.graph = self.phase = self.shape = None
        self.plain = 0  # steps so far

    def __call__(self, images, labels, epoch):
        self.shape = self.shape or images.shape
        if self.plain < WARM or images.shape != self.shape:
            self.plain += 1
            return self._beside(images, labels, epoch)
        if self.phase != min(epoch, self.warmup):
            self._capture(images, labels, epoch)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        return self.value

    def _beside(self, *batch):
        """A plain step, on a stream of its own, as a capture asks of those before it."""
        main = torch.cuda.current_stream()
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            value = self.step(*batch)
        main.wait_stream(self.stream)
        return value

    def _capture(self, images, labels, epoch):
        self.images, self.labels = images.clone(), labels.clone()
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.generator)
        try:
            with torch.cuda.graph(self.graph):
                self.value = self.step(self.images, self.labels, epoch)
        except RuntimeError as error:
            way = "set PACD_GRAPHS=0 to train without"
            raise RuntimeError(f"the training step fits no CUDA graph; {way}.") from error
        self.phase = min(epoch, self.warmup)
