"""How far poison is from its originals: lengths, PSNR, SSIM; and what its change is made of."""

import numpy as np
import skimage  # its parts load at first use; whoever reads rows needs none


def ssim(clean, poison):
    """Structural similarity (Wang et al. 2004) of each pair of images; 1 where equal, (m,).

    The window is 7 x 7 (less on smaller images) and stays inside the image. On 28 x 28 pixels its
    centres fill 22 x 22, where 99 % of the ink of MNIST digits lies; the centres of Wang's own
    11 x 11 fill 18 x 18, where 91 % of it lies.

    Parameters
    ----------
    clean, poison : arrays of shape (m, C, H, W), in [0, 1]
    """
    clean, poison = np.asarray(clean, float), np.asarray(poison, float)
    window = min(7, (min(clean.shape[2:]) - 1) // 2 * 2 + 1)
    options = {"win_size": window, "data_range": 1, "channel_axis": 0}
    options["use_sample_covariance"] = False
    compare = skimage.metrics.structural_similarity
    return np.array([compare(*pair, **options) for pair in zip(clean, poison)])


def distortion(clean, poison):
    """Imperceptibility of poison against original, arrays (m, C, H, W) in [0, 1].

    Largest L-inf and mean L2 (pixel units), mean and worst PSNR (dB), mean and worst SSIM over the
    images; of colour images also the mean difference of colour, CIEDE2000.
    """
    change = (np.asarray(poison, float) - np.asarray(clean, float)).reshape(len(clean), -1)
    psnr = -10 * np.log10((change**2).mean(1).clip(1e-12))
    similarity = ssim(clean, poison)
    colour = {"ciede2000": colour_difference(clean, poison)} if np.shape(clean)[1] == 3 else {}
    return colour | {
        "linf": float(np.abs(change).max()),
        "l2": float(np.sqrt((change**2).sum(1)).mean()),
        "psnr": float(psnr.mean()),
        "psnr_worst": float(psnr.min()),
        "ssim": float(similarity.mean()),
        "ssim_worst": float(similarity.min()),
    }


def colour_difference(clean, poison):
    """Mean CIEDE2000 over the pixels of sRGB images (m, 3, H, W) in [0, 1]; 1 can just be seen."""
    color, pair = skimage.color, (np.asarray(images, float) for images in (clean, poison))
    lab = [color.rgb2lab(images, channel_axis=1) for images in pair]
    return float(color.deltaE_ciede2000(*lab, channel_axis=1).mean())


def anatomy(clean, poison):
    """What a poison's change is made of, arrays (m, C, H, W) in [0, 1].

    Three parts of each image's change, orthogonal over the images: the ``shift`` (one number for
    each channel), the ``pattern`` (what the images share beyond it) and what is the image's
    ``own``; each as its share of the mean squared change. ``background`` and ``strokes`` are the
    mean changes where the original is below and above 1/2 (pixel units; NaN where none is).
    """
    clean, change = np.asarray(clean, float), np.asarray(poison, float) - np.asarray(clean, float)
    total = (change**2).sum() / len(change)
    common = change.mean(0)  # (C, H, W)
    shift = np.broadcast_to(common.mean((1, 2), keepdims=True), common.shape)
    shares = {"shift": (shift**2).sum() / total, "pattern": ((common - shift) ** 2).sum() / total}
    bright = clean >= 0.5
    means = {"background": _mean(change[~bright]), "strokes": _mean(change[bright])}
    own = 1 - sum(shares.values())
    return {name: float(value) for name, value in {**shares, "own": own, **means}.items()}


def _mean(values):
    return values.mean() if len(values) else np.nan
