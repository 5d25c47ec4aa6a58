"""How far poison is from its originals: lengths, PSNR, SSIM."""

import numpy as np
from skimage.metrics import structural_similarity


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
    return np.array([structural_similarity(*pair, **options) for pair in zip(clean, poison)])


def distortion(clean, poison):
    """Imperceptibility of poison against original, arrays (m, C, H, W) in [0, 1].

    Largest L-inf and mean L2 (pixel units), mean and worst PSNR (dB), mean and worst SSIM over the
    images.
    """
    change = (np.asarray(poison, float) - np.asarray(clean, float)).reshape(len(clean), -1)
    psnr = -10 * np.log10((change**2).mean(1).clip(1e-12))
    similarity = ssim(clean, poison)
    return {
        "linf": float(np.abs(change).max()),
        "l2": float(np.sqrt((change**2).sum(1)).mean()),
        "psnr": float(psnr.mean()),
        "psnr_worst": float(psnr.min()),
        "ssim": float(similarity.mean()),
        "ssim_worst": float(similarity.min()),
    }
