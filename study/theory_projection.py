"""What a projection as the first layer leaves the attacker, and what it leaves a linear learner.

``removed``, of shape (m, k), holds orthonormal rows: the directions that the layer takes away; with
m = 0 there is no layer. ``low`` and ``high``, (k,), are the ends of a box of changes. Lengths are
L2 and in pixel units. Statements such as ``prop-longest`` are those of the book's theory chapter.
"""

import numpy as np
from scipy.fft import idctn
from scipy.linalg import null_space
from scipy.optimize import minimize


def cosines(shape, count):
    """The lowest cosine components of every channel, those that a low pass keeps (def-projection).

    Parameters
    ----------
    shape : tuple
        (C, H, W) of one image.
    count : int
        Components of each channel, by i + j, then i; 0 for none.

    Returns
    -------
    array of shape (C * count, C * H * W)
        Orthonormal rows.
    """
    channels, height, width = shape
    pairs = sorted(np.ndindex(height, width), key=lambda pair: (sum(pair), pair))
    waves = np.zeros((count, height, width))
    for wave, pair in zip(waves, pairs):
        wave[pair] = 1
    rows = idctn(waves, axes=(1, 2), norm="ortho").reshape(count, height * width)
    return np.kron(np.eye(channels), rows)


def without(v, removed):
    """P v, (..., k): v less its part along the rows of ``removed`` (def-projection)."""
    return v - (v @ removed.T) @ removed


def coordinates(removed):
    """V, (k - m, k): orthonormal rows that span what the projection keeps (lem-behind)."""
    return null_space(removed).T if len(removed) else np.eye(removed.shape[1])


def behind(summary, V):
    """`theory.Summary` of the points V x: what a learner behind the projection uses (lem-behind).

    A boundary (w, b) that is learned of it is (w @ V, b) in pixels, as far from every point.
    """
    cov = V @ summary.cov @ V.T
    return summary._replace(d=V @ summary.d, base=V @ summary.base, cov=cov)


def box(x, eps):
    """Ends (N, k) of the changes of at most eps that keep images, (N, k), in [0, 1] (lem-box)."""
    return np.maximum(-eps, -x), np.minimum(eps, 1 - x)


def mean_box(x, eps):
    """Ends (k,) of the box of all changes of the mean of images x, (N, k) (lem-box)."""
    return [ends.mean(0) for ends in box(x, eps)]


def one_sided_bound(eps, k):
    """The longest change from [0, eps] in k pixels that is left without its mean (lem-one-sided).

    Attained: half of the pixels, up to one, move by eps.
    """
    return eps * np.sqrt((k // 2) * (k - k // 2) / k)


def longest_bound(low, high, removed):
    """A length that no change of the box has behind the projection (prop-longest).

    The distance of the box's farthest corner from a point of the removed space, which is chosen so
    that the distance is small.
    """
    middle, half = (high + low) / 2, (high - low) / 2

    def farthest(z):
        apart = middle - z @ removed
        edge = np.abs(apart) + half
        return edge @ edge, -2 * removed @ (edge * np.sign(apart))

    z = removed @ middle
    if len(removed):
        z = minimize(farthest, z, jac=True, method="L-BFGS-B").x
    return np.sqrt(farthest(z)[0])


def corner_mean(low, high, removed):
    """Root mean square length of the box's corners behind the projection (prop-longest).

    Some corner is as long.
    """
    middle, half = (high + low) / 2, (high - low) / 2
    kept = 1 - np.sum(removed**2, 0)  # the diagonal of P
    return np.sqrt(np.sum(without(middle, removed) ** 2) + half**2 @ kept)


def longest_found(low, high, removed, tries=16, seed=0):
    """A change of the box, (k,), that is long behind the projection (prop-longest).

    From each start to the corner along P v until it stays, which never makes it shorter, and then
    single pixels to their other ends.
    """
    starts = _starts(low, high, tries, seed)
    ends = _climb(lambda v: without(v, removed), low, high, starts)
    ends = [_polished(v, low, high, removed) for v in ends]
    return max(ends, key=lambda v: np.linalg.norm(without(v, removed)))


def longest_left(x, shape, count, eps):
    """The longest change of the mean of images, in grey or colour, behind the layer (prop-longest).

    Parameters
    ----------
    x : array of shape (N, C * H * W)
        Images of one class in [0, 1].
    shape : tuple
        (C, H, W).
    count : int
        Components that go, in every channel; 0 for no layer.
    eps : float
        L-inf budget of every image.

    Returns
    -------
    bound, found : float
        Proved to be no shorter than the longest, and the length of one that was found.
    """
    (low, high), removed = mean_box(x, eps), cosines(shape, count)
    found = without(longest_found(low, high, removed), removed)
    return longest_bound(low, high, removed), np.linalg.norm(found)


def margin(v, d, removed):
    """Margin of the clean target mean behind the projection after shifts v, (..., k) (cor-behind).

    Of the mean-difference classifier; d, (k,), is the difference of the clean means.
    """
    gap, shift = without(d, removed), without(v, removed)
    surplus = gap @ gap - np.sum(shift**2, -1)
    return surplus / (2 * np.linalg.norm(gap + shift, axis=-1))


def margin_floor(d, length, removed):
    """The margin that shifts leave that are at most so long behind the projection (cor-behind).

    -inf where they could erase the difference d, (k,), of the means.
    """
    gap = np.linalg.norm(without(d, removed))
    return (gap - length) / 2 if length < gap else -np.inf


def worst_found(d, low, high, removed, tries=64, seed=0):
    """The shift of the box, (k,), of the smallest `margin` that was found (cor-behind).

    From each start to the corner that lowers the tangent of the margin, until it stays.
    """

    def down(v):
        u = without(d + v, removed)
        length = np.linalg.norm(u, axis=-1, keepdims=True)
        return without(v, removed) + margin(v, d, removed)[:, None] * u / length

    ends = _climb(down, low, high, _starts(low, high, tries, seed))
    return min(ends, key=lambda v: margin(v, d, removed))


def single_reach(x, eps, removed):
    """What stands for eps in `theory.margin_floor_points` behind the projection (cor-behind).

    The root mean square of what no change of a single image, of x (N, k), exceeds.
    """
    low, high = box(x, eps)
    edge = np.abs(without((low + high) / 2, removed)) + (high - low) / 2
    return np.sqrt(np.mean(np.sum(edge**2, 1)))


def _starts(low, high, tries, seed):
    """Both ends of the box and random corners of it: (tries + 2, k)."""
    chosen = np.random.default_rng(seed).random((tries, len(low))) < 0.5
    return np.vstack([low, high, np.where(chosen, high, low)])


def _climb(direction, low, high, v, steps=200):
    """From v, (n, k), to the corners along ``direction(v)`` until they stay."""
    for _ in range(steps):
        moved = np.where(direction(v) > 0, high, low)
        if np.array_equal(moved, v):
            break
        v = moved
    return v


def _polished(v, low, high, removed):
    """v, (k,), with single pixels at their other ends, the best first, while P v gets longer."""
    kept = 1 - np.sum(removed**2, 0)
    while True:
        flip = low + high - 2 * v
        gain = flip * (2 * without(v, removed) + kept * flip)  # of the squared length
        best = gain.argmax()
        if gain[best] < 1e-12:
            return v
        v = v.copy()
        v[best] = low[best] if v[best] == high[best] else high[best]
