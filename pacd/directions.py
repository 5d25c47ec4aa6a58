"""Directions of a poison step from its gradient, with a memory for each image.

Each is ``direction(rows, gradient) -> step``: ``gradient`` of shape (m, C, H, W) belongs to the
images in ``rows``, and the step is what is subtracted from them, up to its length.
"""

import torch


class Momentum:
    """Sign of each image's decaying sum of gradients (MI-FGSM, arXiv 1710.06081).

    Each gradient is scaled to a mean absolute value of 1.
    """

    def __init__(self, images, decay):
        self.sum, self.decay = torch.zeros_like(images), decay

    def __call__(self, rows, gradient):
        scale = gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)
        self.sum[rows] = self.decay * self.sum[rows] + gradient / scale
        return self.sum[rows].sign()


class AdamSlots:
    """Adam's direction, with moments and step counts of its own for each image.

    The authors' moments belong to places in the batch, and mix the images that meet there.
    """

    def __init__(self, images, betas=(0.9, 0.999)):
        self.first, self.second = torch.zeros_like(images), torch.zeros_like(images)
        self.count = torch.zeros(len(images), 1, 1, 1, device=images.device)
        self.betas = betas

    def __call__(self, rows, gradient):
        self.count[rows] += 1
        first = self._average(self.first, self.betas[0], rows, gradient)
        second = self._average(self.second, self.betas[1], rows, gradient**2)
        return first / (second.sqrt() + 1e-8)

    def _average(self, moment, beta, rows, value):
        """Update a decaying average of the rows; returned without its bias towards 0."""
        moment[rows] = beta * moment[rows] + (1 - beta) * value
        return moment[rows] / (1 - beta ** self.count[rows])
