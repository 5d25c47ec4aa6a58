"""Linear classifiers under poisoning, in closed form: the formulas of the book's theory chapter.

Labels are +1 (target class) and -1 (others). Lengths, sigma, shifts and radii are in pixel units.
A classifier is a pair (w, b), w of shape (k,), that predicts +1 where w.x + b > 0. Names such as
``thm-optimum-ball`` are the labels of that chapter's statements; their proofs are the source of
every formula here.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri


class Summary(NamedTuple):
    """All that the learners below use of a training set.

    d: (k,) mean of the target minus mean of the others. base: (k,) mean of the others. cov: (k, k)
    pooled within-class covariance, sums divided by the number of all points. p: fraction of target
    points.
    """

    d: np.ndarray
    base: np.ndarray
    cov: np.ndarray
    p: float


class Rule(NamedTuple):
    """A learner (lem-rule): B, (k, k) symmetric positive definite, and the scalar h."""

    B: np.ndarray
    h: float


def signed_distance(x, w, b):
    """(w.x + b) / |w| for x, (..., k): the radius, negative where wrong (lem-distance)."""
    return (x @ w + b) / np.linalg.norm(w)


def target_probability(x, w, b, sigma):
    """Probability that x, (..., k), plus N(0, sigma^2 I) noise is predicted +1 (lem-distance)."""
    return ndtr(signed_distance(x, w, b) / sigma)


def mean_positive_part(mu, s):
    """H(mu, s) = E max(0, Z) for Z of N(mu, s^2), s > 0 (lem-gaussian-acr)."""
    return mu * ndtr(mu / s) + s * _density(mu / s)


def capped_mean(mu, s, cap):
    """E min(cap, max(0, Z)): ACR where no certificate can exceed ``cap`` (lem-cap)."""
    return mean_positive_part(mu, s) - mean_positive_part(mu - cap, s)


def radius_cap(sigma, n, alpha):
    """Largest radius that n draws can certify at failure probability alpha; 0: none (lem-cap)."""
    return sigma * max(0.0, ndtri(alpha ** (1 / n)))


def distance_moments(w, b, mean, cov):
    """Mean and deviation of the signed distance of N(mean, cov) (lem-gaussian-acr)."""
    return signed_distance(mean, w, b), np.sqrt(w @ cov @ w) / np.linalg.norm(w)


def acr(w, b, mean, cov):
    """Average certified radius of test points that follow N(mean, cov) (lem-gaussian-acr)."""
    return mean_positive_part(*distance_moments(w, b, mean, cov))


def acr_of_points(w, b, x):
    """Average certified radius of test points x, (m, k); wrong points count 0 (def-acr)."""
    return np.maximum(signed_distance(x, w, b), 0).mean()


def acr_gradient(w, b, mean, cov):
    """Gradient of `acr` in (w, b), arrays of shape (k,) and () (thm-shift-gradient)."""
    (mu, s), length = distance_moments(w, b, mean, cov), np.linalg.norm(w)
    mu_w = mean / length - mu * w / length**2
    s_w = cov @ w / (s * length**2) - s * w / length**2
    return ndtr(mu / s) * mu_w + _density(mu / s) * s_w, ndtr(mu / s) / length


def _density(t):
    return np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)


def summarise(x, y):
    """`Summary` of training points x, (N, k), and labels y, (N,).

    Raises ValueError unless y holds +1 and -1 and no other.
    """
    if set(np.unique(y)) != {-1, 1}:
        raise ValueError("y must hold both labels, +1 and -1, and no other.")
    target, others = x[y == 1], x[y == -1]
    centred = np.vstack([target - target.mean(0), others - others.mean(0)])
    return Summary(
        target.mean(0) - others.mean(0),
        others.mean(0),
        centred.T @ centred / len(x),
        np.mean(y == 1),
    )


def mean_rule(summary):
    """The mean-difference classifier (def-learners)."""
    return Rule(np.eye(len(summary.d)), 0.0)


def ga_rule(summary, sigma):
    """Least squares on Gaussian-augmented data: ridge with penalty N sigma^2 (lem-rule)."""
    p, B = summary.p, np.linalg.inv(summary.cov + sigma**2 * np.eye(len(summary.d)))
    return Rule((B + B.T) / 2, (1 - 2 * p) / (2 * p * (1 - p)))


def boundary(u, base, rule):
    """(w, b) that ``rule`` learns from a mean difference u, (k,), and ``base``, (k,) (lem-rule)."""
    w = rule.B @ u
    return w, -base @ w - u @ w / 2 - rule.h


def ga_penalty(points, sigma):
    """The ridge penalty that Gaussian augmentation of so many points amounts to (thm-ga-ridge)."""
    return points * sigma**2


def ridge(x, y, lam):
    """Minimiser (w, b) of sum (w.x + b - y)^2 + lam |w|^2, x (N, k), y (N,) (def-learners)."""
    X, matrix = _ridge_system(x, lam)
    theta = np.linalg.solve(matrix, X.T @ y)
    return theta[:-1], theta[-1]


def _ridge_system(x, lam):
    X = np.column_stack([x, np.ones(len(x))])
    return X, X.T @ X + lam * np.diag([1.0] * x.shape[1] + [0.0])


def reach(eps, rho, k, order):
    """L2 radius of a ball that holds every shift of the target's mean (lem-reach).

    A fraction rho of the target's points moves, each by at most eps in the norm of ``order``: 2 or
    inf, in k dimensions. The radius is attained.
    """
    return rho * eps * (np.sqrt(k) if order == np.inf else 1.0)


def shift_fraction(summary, v, rho, apart=0.0):
    """`Summary` after v, (k,), moved a fraction rho of the target points (lem-fraction).

    ``apart``, (k,) or 0, is the mean of these points less that of the class.
    """
    cross = np.outer(apart + np.zeros_like(v), v)
    spread = (1 - rho) * np.outer(v, v) + cross + cross.T
    return summary._replace(d=summary.d + rho * v, cov=summary.cov + summary.p * rho * spread)


def acr_after_shift(v, summary, rule, mean, cov):
    """ACR on N(mean, cov) after a rigid shift v, (k,), of the target (thm-shift-gradient)."""
    return acr(*boundary(summary.d + v, summary.base, rule), mean, cov)


def acr_shift_gradient(v, summary, rule, mean, cov):
    """Gradient of `acr_after_shift` in v, (k,) (thm-shift-gradient)."""
    u = summary.d + v
    grad_w, grad_b = acr_gradient(*boundary(u, summary.base, rule), mean, cov)
    return rule.B @ (grad_w - grad_b * (summary.base + u))


def ridge_point_gradient(x, y, lam, grad_w, grad_b):
    """Gradient in every training point, (N, k), of a function of (w, b) (thm-point-gradient).

    (w, b) is the ridge solution; ``grad_w``, (k,), and ``grad_b`` are the function's gradient in
    it, for instance from `acr_gradient`.
    """
    (w, b), (X, matrix) = ridge(x, y, lam), _ridge_system(x, lam)
    h = np.linalg.solve(matrix, np.append(grad_w, grad_b))
    return np.outer(y - x @ w - b, h[:-1]) - np.outer(X @ h, w)


def offset_and_angle(clean, poisoned, mean):
    """Offset and angle parts of the change in ``mean``'s signed distance (thm-offset-angle).

    ``clean`` and ``poisoned`` are pairs (w, b), ``mean`` has shape (k,). The parts add up to the
    change.
    """
    before, after = signed_distance(mean, *clean), signed_distance(mean, *poisoned)
    cosine = clean[0] @ poisoned[0] / np.linalg.norm(clean[0]) / np.linalg.norm(poisoned[0])
    return after - before * cosine, before * (cosine - 1)


def acr_change_bound(clean, poisoned, anchor, x):
    """What |ACR after - ACR before| cannot exceed on test points x, (m, k) (prop-change).

    ``clean`` and ``poisoned`` are pairs (w, b), ``anchor``, (k,), any point; its foot on the clean
    boundary is the point about which the boundary turns.
    """
    normals = [w / np.linalg.norm(w) for w, _ in (clean, poisoned)]
    foot = anchor - signed_distance(anchor, *clean) * normals[0]
    turn = np.linalg.norm(normals[1] - normals[0])  # 2 sin(angle / 2)
    return abs(signed_distance(foot, *poisoned)) + turn * np.linalg.norm(x - foot, axis=1).mean()


def margin_sum(w, d):
    """Margin of one class's mean plus that of the other's, d, (k,), apart (prop-transfer)."""
    return w @ d / np.linalg.norm(w)


def imbalance(p, variance, sigma):
    """The constant c that decides which way the best poison moves (thm-optimum-ball).

    It is 0 for equal classes, and positive where the target is the smaller one.
    """
    return (1 - 2 * p) * (variance + sigma**2) / (p * (1 - p))


def switch_noise(p, variance, D, r):
    """The sigma at which the best direction flips (thm-optimum-line).

    nan where it points towards the others at every sigma. Raises ValueError unless p < 1/2 and
    r < D: the larger class never flips.
    """
    if not (0 < p < 0.5 and 0 <= r < D):
        raise ValueError(f"needs 0 < p < 1/2 and 0 <= r < D, not p = {p:.4g}, r = {r:.4g}.")
    square = p * (1 - p) * (D**2 - r**2) / (1 - 2 * p) - variance
    return np.sqrt(square) if square >= 0 else np.nan


def small_drop(d, r, s, dual):
    """Drop of ACR for small r, mean classifier (thm-shift-gradient).

    d, (k,); s is the spread of the test points; dual = 2 for an L2 ball, 1 for L-inf. With dual = 2
    no drop at any r < |d| is larger (thm-fraction).
    """
    D = np.linalg.norm(d)
    return r / 2 * ndtr(D / (2 * s)) * np.linalg.norm(d, dual) / D


def local_optima_line(D, r, c):
    """Local minima v of ACR over [-r, r] on a line, 0 < r < D, best first (thm-optimum-line)."""
    ends = [s * r for s in (1, -1) if s * (D + s * r) ** 2 > s * c]
    return sorted(ends, key=lambda v: (D**2 - r**2 - c) / (2 * (D + v)))


def best_shift(d, r, c):
    """The shift of least ACR in an L2 ball and the margin of the mean it leaves (thm-optimum-ball).

    d, (k,), is the difference of the training means; c comes from `imbalance` of an isotropic
    within-class covariance and is 0 for the mean classifier. Raises ValueError where r reaches |d|
    and the attacker can erase the difference.
    """
    D = np.linalg.norm(d)
    if not 0 <= r < D:
        raise ValueError(f"needs 0 <= r < |d| = {D:.4g}, not r = {r:.4g}.")
    s = 1 if c <= D**2 - r**2 else -1
    return s * r * d / D, (D**2 - r**2 - c) / (2 * (D + s * r))


def best_shift_cube(d, r, c):
    """As `best_shift` for the L-inf ball (thm-optimum-cube).

    Where d_j = 0 either sign is as good; +1 is taken, which a black pixel can follow (cor-black).
    Raises ValueError outside the range of the theorem.
    """
    surplus = d @ d - len(d) * r**2 - c
    if surplus <= 0 or r >= np.abs(d).max():
        raise ValueError("needs k r^2 + c < |d|^2 and r < max |d_j|.")
    corner = r * signs(d)
    return corner, surplus / (2 * np.linalg.norm(d + corner))


def signs(d):
    """The sign of each entry, +1 where it is 0: the corner of thm-optimum-cube (cor-black)."""
    return np.where(d < 0, -1.0, 1.0)


def is_cube_trap(d, r, c):
    """Does the corner along d hold a sign attack though it is not the best (prop-trap-any)?

    True where this corner is a strict local minimum with a negative margin.
    """
    corner = r * signs(d)
    deficit = corner @ corner + c - d @ d
    steepest = deficit * np.max(np.abs(d) + r)
    return bool(0 < deficit and steepest < 2 * r * (d + corner) @ (d + corner))


def threshold_line(x, y, sigma):
    """Where noisy least squares puts its threshold on a line; x, y: (N,) (thm-points-line)."""
    s = summarise(x[:, None], y)
    return s.base[0] + (s.d[0] + imbalance(s.p, s.cov[0, 0], sigma) / s.d[0]) / 2


def best_poison_line(x, y, eps, sigma, movable):
    """The poison of least ACR on a line, every point moved by at most eps (thm-points-line).

    x, y and movable (bool: which target points may move) have shape (N,); the target has the larger
    mean. Returns the shifts: eps for the largest movable points, -eps for the other movable ones, 0
    elsewhere. Raises ValueError if the target is the larger class, or moved points could bring its
    mean down to the others'.
    """
    gap = x[y == 1].mean() - x[y == -1].mean()
    shift = eps * movable.sum() / (y == 1).sum()
    if np.mean(y == 1) > 0.5 or shift >= gap or np.any(y[movable] != 1):
        raise ValueError("needs the target the smaller class, eps * fraction below the means' gap.")
    largest_first = np.flatnonzero(movable)[np.argsort(-x[movable])]
    shifts = [np.where(movable, -eps, 0.0) for _ in range(movable.sum() + 1)]
    for count, shift in enumerate(shifts):
        shift[largest_first[:count]] = eps
    return max(shifts, key=lambda shift: threshold_line(x + shift, y, sigma))


def margin_floor(summary, rule, r):
    """What a rigid L2 shift of at most r leaves of the training mean's margin (thm-floor).

    -inf where nothing is left, and where r reaches |d|.
    """
    if r >= np.linalg.norm(summary.d):
        return -np.inf
    top, Bd = np.linalg.eigvalsh(rule.B)[-1], rule.B @ summary.d
    surplus = summary.d @ Bd - top * r**2 - 2 * rule.h
    return surplus / (2 * (np.linalg.norm(Bd) + top * r)) if surplus >= 0 else -np.inf


def margin_floor_cube(d, r):
    """`margin_floor` of the mean-difference classifier in an L-inf ball (cor-floor-cube).

    d, (k,); r is the budget times the moved fraction. -inf outside the range of thm-optimum-cube.
    """
    try:
        return best_shift_cube(d, r, 0.0)[1]
    except ValueError:
        return -np.inf


def margin_floor_points(summary, sigma, eps, rho):
    """`margin_floor` for GA when points move one by one, sigma > 0, L2 eps (thm-floor-points).

    An L-inf budget in k dimensions is at most sqrt(k) times as long in L2.
    """
    p, r, D = summary.p, rho * eps, np.linalg.norm(summary.d)
    if r >= D:
        return -np.inf
    low, high = noisy_spread(summary, sigma, eps, rho)
    surplus = D**2 / high - r**2 / low - (1 - 2 * p) / (p * (1 - p))
    return low * surplus / (2 * (D + r)) if surplus >= 0 else -np.inf


def noisy_spread(summary, sigma, eps, rho):
    """Bounds of the eigenvalues of the poisoned C + sigma^2 I (thm-floor-points)."""
    values = np.linalg.eigvalsh(summary.cov).clip(min=0)
    move = eps * np.sqrt(rho * summary.p)
    low = max(np.sqrt(values[0]) - move, 0) ** 2
    high = (np.sqrt(values[-1]) + move) ** 2
    return low + sigma**2, high + sigma**2
