"""How many pairs, by which solver, and how much memory for what, now that P is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from curvtool.algorithms.basis import BasisPlace
from curvtool.algorithms.dense import DENSE_LIMIT
from curvtool.algorithms.lanczos import default_basis
from curvtool.config import BASIS_ABOVE_K, DEFAULT_TOP_K, SpectrumConfig
from curvtool.errors import InputError
from curvtool.pipeline.subject import Subject
from curvtool.problem.wording import in_bytes

# Vectors of P numbers that a solve and a product hold beside the basis.
WORKING_VECTORS = 8


def pairs_and_method(config: SpectrumConfig, size: int) -> tuple[int, str]:
    """The number of pairs and the solver.

    Args:
        config: the run.
        size: P.

    Returns:
        Both.

    Raises:
        InputError: for more pairs than there are, or a matrix too large to write out.
    """
    if config.all_pairs:
        if size > DENSE_LIMIT:
            raise InputError(
                f"--all writes H out as a matrix, for at most {DENSE_LIMIT:,} parameters; this "
                f"model has {size:,}. Ask for the pairs you need with --top-k, or restrict H with "
                "--params."
            )
        return size, "dense"
    k = config.top_k if config.top_k is not None else min(DEFAULT_TOP_K, size)
    if k > size:
        raise InputError(
            f"--top-k {k} asks for more eigenvalues than H has: it is {size} x {size}, one row for "
            f"each differentiated parameter. Use --top-k {size}, or --all."
        )
    if config.method != "auto":
        if config.method == "dense" and size > DENSE_LIMIT:
            raise InputError(
                f"--method dense writes H out as a matrix, for at most {DENSE_LIMIT:,} parameters; "
                f"this model has {size:,}. Use --method lanczos."
            )
        return k, _fitting(config.method, k, size)
    if config.basis is not None or config.certify == "full":
        return k, "lanczos"  # what only Lanczos has was asked for
    # Iterating may take up to max_hvps products; the matrix takes P and hides nothing.
    return k, "dense" if size <= min(config.max_hvps, DENSE_LIMIT) else "lanczos"


def _fitting(method: str, k: int, size: int) -> str:
    """The named solver, unless SciPy's own limits exclude it."""
    most = {"eigsh": size - 1, "lobpcg": (size - 1) // 5}.get(method, size)
    if k > most:
        raise InputError(
            f"--method {method} finds at most {most} pairs of an H of size {size}; --top-k asks "
            f"for {k}. Use --method lanczos or dense."
        )
    return method


@final
@dataclass(frozen=True)
class Room:
    """Memory of a solve.

    Attributes:
        basis: vectors of the Krylov basis.
        basis_bytes: memory of these, or of what another solver has in their place.
        vector_bytes: of the vectors beside them.
    """

    basis: int
    basis_bytes: int
    vector_bytes: int


def share_memory(
    config: SpectrumConfig,
    objective: Subject,
    k: int,
    method: str,
    memory: int,
    *,
    ranks: int = 1,
) -> Room:
    """Divide the memory: parameters and vectors first, then the basis, the rest for graphs.

    Args:
        config: the run.
        objective: for P and its dtype.
        k: pairs.
        method: the solver's name.
        memory: bytes in all, of each process.
        ranks: processes that share vectors out.

    Returns:
        The division.

    Raises:
        InputError: where the vectors alone do not fit.
    """
    number = objective.dtype.itemsize
    part = -(-objective.size // ranks)
    vector = number * (part if config.compute.shard_params else objective.size)
    place = BasisPlace(config.basis_device, config.basis_dtype)
    # Rows of the solver on this process, and whether they take of this memory.
    row = part * number if method in {"lanczos", "power"} else objective.size * number
    elsewhere = False
    if method == "lanczos":
        row = part * place.itemsize(objective.dtype)
        beside = objective.device.type == "cpu"
        elsewhere = place.device == "disk" or (place.device == "cpu" and not beside)
    least = min(objective.size, k + BASIS_ABOVE_K)
    basis = min(objective.size, config.basis or default_basis(k, objective.size))
    # Each pair's residual may be in memory at once, and eight vectors in float64.
    taken = WORKING_VECTORS + (k if method == "lanczos" else 0) + (k if config.vectors else 0)
    if config.basis is None and method == "lanczos" and not elsewhere:
        # The basis may take half; a smaller one costs products, fewer graphs cost time.
        basis = max(least, min(basis, int((memory / 2 - taken * vector) / row)))
    # Measured peaks; the matrix and SciPy's workspaces are in double whatever the dtype.
    double = torch.float64.itemsize // number
    rows = {
        "lanczos": basis,
        "power": 3 * k,
        "dense": 5 * objective.size * double,
        "eigsh": (2 * max(2 * k + 1, 20) + k + 5) * double,
        "lobpcg": 14 * k * double,
    }[method]
    room = 0 if elsewhere else rows * row
    needed = room + taken * vector
    if needed > memory:
        raise InputError(
            f"The vectors of this solve take {in_bytes(needed)}: {rows} of "
            f"{objective.size:,} numbers and {taken} beside them; --memory allows "
            f"{in_bytes(memory)}. Ask for fewer pairs with "
            "--top-k, restrict H with --params, or allow more."
        )
    return Room(
        basis=basis,
        basis_bytes=room,
        vector_bytes=taken * vector,
    )


def expected_products(method: str, k: int, size: int, max_hvps: int) -> int:
    """A guess of the products that a solve will need; the spectrum decides.

    Lanczos took 2.3 to 4 k + 10 products for the top 5 to 50 of the networks in the benchmarks.

    Args:
        method: the solver's name.
        k: pairs.
        size: P.
        max_hvps: the most that may be made.

    Returns:
        Products.
    """
    guess = {
        "lanczos": 3 * k + 12,
        "dense": size + 2,
        "power": 100 * k,
        "eigsh": 5 * k + 20,
        "lobpcg": 40 * k,
    }[method]
    return guess if method == "dense" else min(guess, max_hvps)


def average_rows(products: int, basis: int) -> int:
    """Rows of a Lanczos basis at an average step: it fills once, and half of it at restarts."""
    return products // 2 if products <= basis else 3 * basis // 4
