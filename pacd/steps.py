"""Directions of a poison step from its gradient: blurred, and signs of a running sum or Adam, with a memory for each image."""

import torch


def blur(images, deviation):
    """Gaussian blur of each image of a batch of shape (N, C, H, W), ``deviation`` in pixels; cut off at two deviations, or where a smaller image ends."""
    from torchvision.transforms.functional import (
        gaussian_blur,  # takes longer to import than all the rest of a run's packages
    )

    reach = min(2 * round(deviation) + 1, min(images.shape[2:]) - 1)
    return gaussian_blur(images, 2 * reach + 1, deviation)


class Momentum:
    """Sign of each image's decaying sum of gradients, each scaled to mean absolute value 1 (MI-FGSM, arXiv 1710.06081)."""

    def __init__(self, images, decay):
        self.sum, self.decay = torch.zeros_like(images), decay

    def __call__(self, hit, gradient):
        scale = gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)
        self.sum[hit] = self.decay * self.sum[hit] + gradient / scale
        return self.sum[hit].sign()


class AdamSlots:
    """Adam's direction with moments and step counts kept for each image; the authors' share them between images."""

    def __init__(self, images, betas=(0.9, 0.999)):
        self.first, self.second, self.betas = (
            torch.zeros_like(images),
            torch.zeros_like(images),
            betas,
        )
        self.count = torch.zeros(len(images), 1, 1, 1, device=images.device)

    def __call__(self, hit, gradient):
        self.count[hit] += 1
        self.first[hit] = self.betas[0] * self.first[hit] + (1 - self.betas[0]) * gradient
        self.second[hit] = self.betas[1] * self.second[hit] + (1 - self.betas[1]) * gradient**2
        unbiased = [
            m[hit] / (1 - beta ** self.count[hit])
            for m, beta in zip((self.first, self.second), self.betas)
        ]
        return unbiased[0] / (unbiased[1].sqrt() + 1e-8)
