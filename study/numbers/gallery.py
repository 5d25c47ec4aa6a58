"""The gallery: what the poison of the smoke profile looks like, and whom it harms most."""

from functools import cache, cached_property

import numpy as np
import pandas as pd

from pacd import data, poison_file
from study.distortion import distortion, ssim
from study.figures.patterns import examples_figure, mean_figure, misled_figure
from study.intervals import by_seed, mean_interval
from study.numbers.shared import load
from study.results import ROOT
from study.tables import without_index

PROFILE = "smoke"
EXPERIMENTS = ("headline",)
SHOWN = 6  # test points that are misled most


class Gallery:
    """The rows of clean and poisoned victims, and the images of their poison."""

    def __init__(self, profile):
        rows = load(profile, "headline")
        self.clean = rows[rows["attack"] == "none"]
        self.poisoned = rows[rows["attack"] == "first_order"]
        self.run = self.poisoned.iloc[0]
        self.eps = self.run["eps_linf"]

    @cached_property
    def digits(self):
        """The data set that was poisoned."""
        return data.load(self.run["dataset"], split_seed=int(self.run["split_seed"]))

    @cached_property
    def pairs(self):
        """Original and poisoned images, arrays (m, C, H, W), pixel units."""
        path = ROOT / self.run["poison_file"]
        poisoned, _ = poison_file.apply(path, self.digits)
        index = poison_file.read(path)[0]
        return tuple(splits.x_train[index].numpy() for splits in (self.digits, poisoned))

    @property
    def change(self):
        """What the poison changes, array (m, C, H, W), levels of 255."""
        original, poison = self.pairs
        return 255 * (poison - original)

    def example(self):
        """The pair with the median SSIM, two arrays (H, W), pixel units."""
        ranked = np.argsort(ssim(*self.pairs))
        return [images[ranked[len(ranked) // 2], 0] for images in self.pairs]

    @property
    def radii(self):
        """Radii of clean and of poisoned victims, tables of victim seeds and test points."""
        return by_seed(self.clean), by_seed(self.poisoned)

    @property
    def misled(self):
        """The test points whose mean radius falls most, most first."""
        before, after = self.radii
        return (before - after).mean().nlargest(SHOWN).index


@cache
def opened(profile):
    """The gallery of a profile, made once: the page shows it in several ways."""
    return Gallery(profile)


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    gallery = opened(profile)
    before, _ = gallery.radii
    return {
        "images": str(len(gallery.change)),
        "target": str(gallery.run["target_class"]),
        "eps": f"{gallery.eps:g}",
        "levels": str(poison_file.whole_steps(gallery.eps)),
        **of_distances(gallery),
        **of_yardsticks(gallery),
        **of_black(gallery),
        "common": f"{100 * common_share(gallery.change):.0f}",
        "points": str(before.shape[1]),
        "victims": str(len(before)),
    }


def of_distances(gallery):
    """How far the poison is from the originals."""
    distances = distortion(*gallery.pairs)
    return {
        "l2": f"{distances['l2']:.2f}",
        "psnr": f"{distances['psnr']:.1f}",
        "psnr_worst": f"{distances['psnr_worst']:.1f}",
        "ssim": f"{distances['ssim']:.2f}",
        "ssim_worst": f"{distances['ssim_worst']:.2f}",
    }


def of_yardsticks(gallery):
    """The same of brightening every pixel, and of a flat eps on black."""
    original, _ = gallery.pairs
    brighter = (original + poison_file.whole_steps(gallery.eps) / 255).clip(max=1)
    uniform = distortion(original, brighter)
    black = np.zeros((1, 1, *original.shape[2:]))
    return {
        "ssim_uniform": f"{uniform['ssim']:.2f}",
        "psnr_uniform": f"{uniform['psnr']:.1f}",
        "ssim_flat": f"{ssim(black, black + gallery.eps)[0]:.2f}",
    }


def of_black(gallery):
    """What the poison does on the black ground and elsewhere."""
    change, black = gallery.change, gallery.pairs[0] == 0
    brightened = ((change > 0) & black).sum((1, 2, 3)) / black.sum((1, 2, 3))  # of each image
    return {
        "black": f"{100 * black.mean():.0f}",
        "on_black": f"{change[black].mean():.0f}",
        "on_ink": f"{np.abs(change[~black]).mean():.0f}",
        "brightened": f"{100 * brightened.mean():.0f}",
        "brightened_least": f"{100 * brightened.min():.0f}",
    }


def common_share(change):
    """How much of the mean squared change the mean change holds."""
    mean = change.mean(0)
    return (mean**2).sum() / (change**2).sum((1, 2, 3)).mean()


# ---- tables and figures ----


def examples(profile=PROFILE):
    """The best, the median and the worst image."""
    gallery = opened(profile)
    images = (*gallery.pairs, gallery.change)
    return examples_figure(images, ssim(*gallery.pairs), gallery.eps)


def means(profile=PROFILE):
    """Mean original and mean change."""
    gallery = opened(profile)
    return mean_figure(gallery.pairs[0], gallery.change, gallery.eps)


def misled(profile=PROFILE):
    """The test points whose radius falls most."""
    gallery = opened(profile)
    images = {point: gallery.digits.x_test[point, 0] for point in gallery.misled}
    return misled_figure(images, *gallery.radii)


def misled_table(profile=PROFILE):
    """Their radii with intervals over victims, and what poisoned victims say instead."""
    gallery = opened(profile)
    before, after = gallery.radii
    instead = predicted_instead(gallery.poisoned)
    lines = [
        {
            "test image": point,
            "radius before": _radius(before[point]),
            "radius after": _radius(after[point]),
            "instead": instead[point],
        }
        for point in gallery.misled
    ]
    return without_index(pd.DataFrame(lines))


def _radius(radii):
    middle, low, high = mean_interval(radii)
    return f"{middle:.2f} [{max(low, 0):.2f}, {high:.2f}]"


def predicted_instead(rows):
    """The class, beside the right one, that each test point's draws name most often (Series)."""
    votes = rows.filter(regex=r"^count_\d+$").groupby(rows["index"]).sum()
    others = votes.drop(columns=f"count_{rows['label'].iloc[0]}")
    return others.idxmax(axis=1).str.removeprefix("count_")
