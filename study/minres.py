"""The reference of the solvers: minimal residuals, on the CPU."""

import torch
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import minres as scipy_minres

from pacd import hypergradient as hg


def minres(draw, b, iterations=100, tolerance=1e-6):
    """MINRES on one draw: for symmetric systems that are indefinite, as most of networks are.

    The residual never grows.

    References
    ----------
    Paige and Saunders 1975; scipy's implementation, on the CPU.
    """
    product, sizes = draw(), [x.numel() for x in b]

    def lists(v):
        parts = torch.as_tensor(v).ravel().to(b[0]).split(sizes)
        return [part.view(x.shape) for part, x in zip(parts, b)]

    def flat(v):
        return torch.cat([x.flatten() for x in v]).cpu().numpy()

    right = flat(b)
    shape = len(right), len(right)
    system = LinearOperator(shape, lambda v: flat(product(lists(v))), dtype=right.dtype)
    q = lists(scipy_minres(system, right, maxiter=iterations, rtol=tolerance)[0])
    return q, hg.residual_of(product, b, q)


SOLVERS = {**hg.SOLVERS, "minres": minres}
