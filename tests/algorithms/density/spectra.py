"""Spectra of many kinds, probes of them without torch, and when a coverage is too low.

Letters: P size, n probes, k steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import beta

from curvtool.algorithms.density.pooled import Extremes, Probed
from curvtool.algorithms.density.rules import Recurrence
from curvtool.results import FloatArray

P = 300
NOTHING = Extremes(np.zeros(0), np.zeros(0), np.zeros(0))


def _network() -> FloatArray:
    i = np.arange(1, P + 1.0)
    signs = np.where((i % 10 == 3) & (i > 10), -0.3, 1.0)
    return np.asarray(i**-1.3 * signs)


def _semicircle() -> FloatArray:
    x = np.linspace(-1, 1, 20_001)
    F = np.cumsum(np.sqrt(1 - x * x))
    return np.asarray(np.interp((np.arange(P) + 0.5) / P, F / F[-1], x))


def _kronecker() -> FloatArray:
    return np.repeat(0.7 ** np.arange(30), P // 30)


FAMILIES: dict[str, Callable[[], FloatArray]] = {
    "network": _network,
    "uniform": lambda: (np.arange(P) + 0.5) / P,
    "semicircle": _semicircle,
    "rank 40": lambda: np.where(np.arange(P) < 40, np.exp(-np.arange(P) / 15), 0.0),
    "giant": lambda: np.concatenate([[1e4], _semicircle()[:-1]]),
    "half zeros": lambda: np.where(np.arange(P) < P // 2, np.arange(1, P + 1.0) ** -1.5, 0.0),
    "two levels": lambda: np.where(np.arange(P) < 30, 1.0, 0.1),
    "signed pairs": lambda: np.arange(1, P + 1.0) ** -1.0 * (-1.0) ** np.arange(P),
    "copies": _kronecker,
    "all equal": lambda: np.full(P, 0.4),
    "rank 1": lambda: np.where(np.arange(P) < 1, 2.0, 0.0),
}
DEFINITE = {"uniform", "rank 40", "half zeros", "two levels", "copies", "all equal", "rank 1"}


def by_magnitude(values: FloatArray) -> FloatArray:
    """The same, the largest first."""
    return values[np.argsort(-np.abs(values), kind="stable")]


def sent(
    values: FloatArray, number: int, steps: int, rng: np.random.Generator, *, noise: float = 0.0
) -> list[Probed]:
    """Gaussian probes of a diagonal matrix, in plain numpy with full reorthogonalisation.

    Args:
        values: the diagonal, shape (P,).
        number: n.
        steps: k at most.
        rng: draws the probes, and the noise of every product.
        noise: absolute error of a product of a unit vector.

    Returns:
        What each said.
    """
    size = len(values)
    found = []
    for _ in range(number):
        v = rng.standard_normal(size)
        square = float(v @ v)
        rows = np.zeros((min(steps, size), size))
        alpha, beta_k = [], []
        v /= np.sqrt(square)
        for j in range(len(rows)):
            rows[j] = v
            w = values * v + noise * rng.standard_normal(size) / size**0.5
            alpha.append(float(v @ w))
            for _ in range(2):
                w -= rows[: j + 1].T @ (rows[: j + 1] @ w)
            beta_k.append(float(np.linalg.norm(w)))
            if beta_k[-1] <= max(noise, 1e-14 * float(np.abs(values).max())):
                break
            v = w / beta_k[-1]
            v -= rows[: j + 1].T @ (rows[: j + 1] @ v)
            v /= np.linalg.norm(v)
        found.append(Probed(Recurrence(np.array(alpha), np.array(beta_k)), square))
    return found


def measure(values: FloatArray, start: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of a start's own measure, rising."""
    order = np.argsort(values)
    weights = start**2 / (start @ start)
    return values[order], weights[order]


def too_few(hits: int, runs: int, level: float = 0.95) -> bool:
    """Whether the 99 % interval of Clopper and Pearson lies wholly below the level."""
    return hits < runs and float(beta.ppf(0.995, hits + 1, runs - hits)) < level
