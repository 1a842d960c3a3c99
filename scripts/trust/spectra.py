"""Symmetric matrices of which every eigenvalue is known, with products that err as real ones do.

H = Q diag(lambda) Q' with Q two reflections, so that a product takes O(P). Letters: P size.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray

from curvtool.operators.base import FunctionOperator

Floats = NDArray[np.float64]
End = Literal["LM", "LA", "SA", "BE"]
NOISES = ("round", "rand1e-7", "rand1e-6", "rand1e-5", "bias1e-5")


@final
@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix with its eigenvalues, its exact products, and those that a solve is given.

    Attributes:
        values: eigenvalues, increasing.
        exact: float64 products.
        noisy: float32 products.
    """

    values: Floats
    exact: FunctionOperator
    noisy: FunctionOperator


def matrix(values: Floats, noise: str, rng: np.random.Generator) -> Matrix:
    """A matrix with these eigenvalues.

    Args:
        values: in any order, shape (P,).
        noise: of `NOISES`: rounding of a factored product G'JG with G in float32, random noise of
            a size relative to |H|, or a fixed bias.
        rng: of the eigenvectors and the noise.

    Returns:
        The matrix. With `round` its eigenvalues are those of the rounded factor.
    """
    P = len(values)
    reflections = rng.standard_normal((2, P))
    reflections /= np.linalg.norm(reflections, axis=1)[:, None]
    u = torch.from_numpy(reflections)
    largest = float(np.abs(values).max())

    def rotated(v: torch.Tensor, *, back: bool) -> torch.Tensor:
        for w in u.flip(0) if back else u:
            v = v - 2 * w * (w @ v)
        return v

    if noise == "round":
        rows = torch.stack([rotated(e, back=False) for e in torch.eye(P, dtype=torch.float64)])
        mixing = np.linalg.qr(rng.standard_normal((P, P)))[0]
        order = np.argsort(values > 0, kind="stable")
        signs = np.sign(values[order])
        at = signs > 0
        G = np.sqrt(np.abs(values[order]))[:, None] * rows.numpy().T[order]
        for part in (at, ~at):
            n = int(part.sum())
            if n:
                G[part] = np.linalg.qr(mixing[:n, :n] + np.eye(n))[0] @ G[part]
        single = torch.from_numpy(G).float()
        double, J = single.double(), torch.from_numpy(signs)
        truth = np.linalg.eigvalsh((double.T @ (J[:, None] * double)).numpy())
        J32 = J.float()
        return Matrix(
            truth,
            FunctionOperator(lambda v: double.T @ (J * (double @ v)), P),
            FunctionOperator(lambda v: single.T @ (J32 * (single @ v)), P, torch.float32),
        )
    diagonal = torch.from_numpy(values)

    def exact(v: torch.Tensor) -> torch.Tensor:
        return rotated(diagonal * rotated(v, back=False), back=True)

    if noise == "bias1e-5":
        bias = torch.from_numpy(1 + 1e-5 * rng.random(P))
        made = lambda v: (bias * exact(bias * v.double())).float()  # noqa: E731
    else:
        size = float(noise.removeprefix("rand")) * largest / np.sqrt(P)
        made = lambda v: (  # noqa: E731
            exact(v.double()) + size * v.double().norm() * torch.from_numpy(rng.standard_normal(P))
        ).float()
    return Matrix(
        np.sort(values), FunctionOperator(exact, P), FunctionOperator(made, P, torch.float32)
    )


def bounds_family(name: str, P: int, k: int, rng: np.random.Generator) -> tuple[Floats, End]:
    """Outliers over a bulk i^-1.3, with what makes bounds hard.

    Args:
        name: `deep`, `cluster`, `copies`, `plusminus`, `SA`, `BE` or `scale`.
        P: size.
        k: pairs that will be asked for.
        rng: of the spectrum.

    Returns:
        Eigenvalues, and the end to ask for.
    """
    outliers, which = max(10, k), "LM"
    top = np.geomspace(1, 0.1, outliers) * rng.uniform(0.97, 1.03, outliers)
    i = np.arange(1, P - outliers + 1)
    bulk = 0.05 * i**-1.3 * np.where(rng.random(P - outliers) < 0.2, -0.3, 1)
    if name in {"cluster", "copies"}:
        many = min(2, max(1, k - 2))
        for j in rng.choice(max(1, k - 2), many, replace=False):
            for q in range(1, rng.integers(2, 4)):
                top[j + q] = top[j] * (1 - (name == "cluster") * q * 10 ** rng.uniform(-9, -3))
    elif name == "plusminus":
        top[outliers // 2 :] = -top[: outliers - outliers // 2]
    elif name in {"SA", "BE"}:
        which, few = name, k if name == "SA" else max(1, k // 2)
        scale = 10 ** rng.uniform(-4, -2)
        bulk = np.abs(bulk) * np.where(rng.random(P - outliers) < 0.3, -1, 1) * scale
        bulk[-few:] = -scale * np.geomspace(1, 0.3, few)
        if name == "BE":
            bulk[:40] = np.abs(bulk[:40]) * 0.05 / scale
    values = np.concatenate([top, bulk])
    if name == "scale":
        values = values * 10 ** rng.uniform(-20, 20)
    return values, which  # type: ignore[return-value]


def wanted_values(values: Floats, which: str, k: int) -> Floats:
    """The true answer, in the order of results."""
    rising = np.sort(values)
    if which == "LM":
        return np.asarray(values[np.argsort(-np.abs(values), kind="stable")[:k]])
    if which == "LA":
        return rising[::-1][:k]
    if which == "SA":
        return rising[:k]
    top = (k + 1) // 2
    return np.concatenate([rising[::-1][:top], rising[: k - top][::-1]])


def completeness_family(name: str, P: int, k: int, rng: np.random.Generator) -> tuple[Floats, End]:
    """Spectra of which lists are easily incomplete: copies, dense edges, piles, both signs.

    Args:
        name: of `COMPLETENESS_FAMILIES`.
        P: size.
        k: pairs that will be asked for.
        rng: of the spectrum.

    Returns:
        Eigenvalues, and the end to ask for.

    Raises:
        ValueError: for a family that there is not.
    """
    i = np.arange(1, P + 1.0)

    def jittered(x: Floats) -> Floats:
        return np.asarray(x * np.exp(0.03 * rng.standard_normal(len(x))))

    if name == "1/i":
        return jittered(1 / i), "LA"
    if name == "1/i^2":
        return jittered(i**-2), "LA"
    if name in {"spikes", "spike copy"}:
        bulk = _bulk(P, int(rng.integers(8)))
        gap = np.exp(rng.uniform(np.log(0.01), 0)) * (bulk[-1] - bulk[0])
        spikes = bulk[-1] + gap * (1 + np.cumsum(rng.exponential(0.3, k)))
        spikes += bulk[-1] + gap - spikes[0]
        if name == "spike copy":
            spikes = np.r_[spikes, spikes[rng.integers(0, k)]]
        return np.r_[spikes, bulk[len(spikes) :]], "LA"
    if name == "copies":
        values = jittered(1 / i)
        copied = np.sort(values)[::-1][rng.integers(0, k)]
        return np.r_[values, np.full(rng.integers(1, 10), copied)], "LA"
    if name == "piled edge":
        return np.r_[1 + 1e-6 * rng.random(261), rng.random(239)], "LA"
    if name == "pairs":
        half = jittered(1 / i[: P // 2])
        return np.r_[half, -half], "LM"
    if name in {"both ends", "both ends, copy"}:
        top, bottom = jittered(1 / i[: P // 8]), jittered(1 / i[: P // 8])
        values = np.r_[top, -0.5 * bottom, np.zeros(P - 2 * len(top))]
        if name == "both ends, copy":
            rising, r = np.sort(values), rng.integers(0, max(1, k // 2))
            values = np.r_[values, rising[r] if rng.random() < 0.5 else rising[-1 - r]]
        return values, "BE"
    if name == "net":
        top = np.sort(np.exp(rng.uniform(0, 2.3, 9)))
        low = -0.02 * rng.random(P // 5) ** 3
        ends: tuple[End, End] = ("LA", "LM")
        return np.r_[top, jittered(0.5 * i**-1.3), low], ends[int(rng.integers(2))]
    raise ValueError(f"There is no family {name!r}.")


COMPLETENESS_FAMILIES = (
    "1/i",
    "1/i^2",
    "spikes",
    "spike copy",
    "copies",
    "piled edge",
    "pairs",
    "both ends",
    "both ends, copy",
    "net",
)


@functools.lru_cache(maxsize=64)
def _bulk(P: int, draw: int) -> Floats:
    """Eigenvalues of a Wigner or a Wishart matrix, increasing."""
    X = np.random.default_rng([P, draw]).standard_normal((P, 2 * P)) / np.sqrt(2 * P)
    square = X @ X.T if draw % 2 else (X[:, :P] + X[:, :P].T) / 2
    return np.asarray(np.linalg.eigvalsh(square))
