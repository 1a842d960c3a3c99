"""Tall-matrix arithmetic whose rounding does not grow with the number of parameters.

Letters: P parameters, m rows of a basis.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

# Longest run of float32 products that is summed in float32; sums of runs are kept in float64.
RUN = 65536
# Numbers that are turned into float64 at a time: 32 MiB.
WIDE_RUN = 2**22


def inner_products(V_mP: Tensor, w_P: Tensor) -> Tensor:
    """V w in float64, shape (m,), on the device and without waiting for it."""
    if V_mP.dtype == torch.float64:
        return V_mP @ w_P
    if w_P.device != V_mP.device:
        return inner_products(V_mP, w_P.to(V_mP.device)).to(w_P.device)
    m, P = V_mP.shape
    total = torch.zeros(m, dtype=torch.float64, device=V_mP.device)
    if V_mP.device.type == "cpu" or V_mP.dtype != w_P.dtype:
        # 26 ms by the batched product below, 13 ms so, for 50 rows of 831,000 on two cores.
        for begin in range(0, P, RUN):
            total += V_mP[:, begin : begin + RUN].to(w_P.dtype) @ w_P[begin : begin + RUN]
        return total
    runs = P // RUN
    total += V_mP[:, runs * RUN :] @ w_P[runs * RUN :]
    if runs:
        V = V_mP[:, : runs * RUN].view(m, runs, RUN).transpose(0, 1)
        w = w_P[: runs * RUN].view(runs, RUN, 1)
        total += torch.bmm(V, w).view(runs, m).sum(0, dtype=torch.float64)
    return total


def exact_products(V_mP: Tensor, w_P: Tensor) -> Tensor:
    """V w with every product and sum in float64, shape (m,): for numbers that are printed."""
    # In runs of float32, 3 and 3,000 terms of 1e-7 add up to 3.00026, not 3.0003: more than a
    # product's own rounding, and alike under all probes, so that no scatter shows it.
    total = torch.zeros(len(V_mP), dtype=torch.float64, device=w_P.device)
    run = max(RUN, WIDE_RUN // max(1, len(V_mP)))
    for begin in range(0, w_P.shape[0], run):
        w = w_P[begin : begin + run].double()
        total += V_mP[:, begin : begin + run].to(w) @ w
    return total


def norm(w_P: Tensor) -> Tensor:
    """|w| in float64, a scalar on the device, whatever the scale of its entries."""
    # Divided by the largest entry first: squares neither overflow nor vanish.
    largest = w_P.abs().amax().to(torch.float64)
    safe = torch.where(largest > 0, largest, torch.ones_like(largest))
    u_P = w_P / safe.to(w_P.dtype)
    return inner_products(u_P.unsqueeze(0), u_P)[0].sqrt() * safe


def orthogonalized(
    V_mP: Tensor, w_P: Tensor, summed: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Take the rows' components out of `w_P` by classical Gram-Schmidt, twice.

    Args:
        V_mP: orthonormal rows.
        w_P: any vector.
        summed: adds up over ranks that hold a part of each vector; None where they are whole.

    Returns:
        The remainder, a new vector, and the components, float64 of shape (m,), on the device.
        Costs four passes over the basis, three on a CPU, and no wait for the device.

    References:
        Giraud, Langou, Rozloznik, van den Eshof (2005): twice is enough.
    """
    if w_P.device != V_mP.device:  # the basis lies in the host's memory
        rest_P, components_m = orthogonalized(V_mP, w_P.to(V_mP.device), summed)
        return rest_P.to(w_P.device), components_m.to(w_P.device)
    first_m = inner_products(V_mP, w_P)
    if summed is not None:
        first_m = summed(first_m)
    w_P, second_m = _subtracted(V_mP, first_m.to(w_P.dtype), w_P)
    if summed is not None:
        second_m = summed(second_m)
    if V_mP.dtype == w_P.dtype:
        w_P.addmv_(V_mP.T, second_m.to(w_P.dtype), alpha=-1)
    else:
        w_P -= combination(V_mP, second_m, w_P.dtype)
    return w_P, first_m + second_m


def _subtracted(V_mP: Tensor, c_m: Tensor, w_P: Tensor) -> tuple[Tensor, Tensor]:
    """The vector w - V'c, and its inner products with the rows in float64."""
    if w_P.device.type != "cpu" and V_mP.dtype == w_P.dtype:
        w_P = torch.addmv(w_P, V_mP.T, c_m, alpha=-1)
        return w_P, inner_products(V_mP, w_P)
    # A run of columns is still in the cache when it is needed again.
    left_P = torch.empty_like(w_P)
    components_m = torch.zeros(V_mP.shape[0], dtype=torch.float64, device=w_P.device)
    for begin in range(0, len(w_P), RUN):
        V, left = V_mP[:, begin : begin + RUN].to(w_P.dtype), left_P[begin : begin + RUN]
        torch.addmv(w_P[begin : begin + RUN], V.T, c_m, alpha=-1, out=left)
        components_m += V @ left
    return left_P, components_m


def orthogonalization_seconds(
    rows: int, size: int, *, dtype: torch.dtype, device: torch.device
) -> float:
    """What `orthogonalized` takes against so many rows, measured on a few.

    Args:
        rows: of the basis.
        size: P.
        dtype: of the basis.
        device: where it lies.

    Returns:
        Seconds. Costs three calls with rows of 64 MB together, or one row.
    """
    few = max(1, min(rows, 2**26 // (size * dtype.itemsize)))
    if not rows:
        return 0.0
    V_mP = torch.full((few, size), size**-0.5, dtype=dtype, device=device)
    w_P = V_mP[0].clone()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        orthogonalized(V_mP, w_P)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times) * rows / few


def combination(V_mP: Tensor, c_m: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """C' V, shape (P,), where the basis lies; in its dtype where none is named."""
    dtype = dtype or V_mP.dtype
    c_m = c_m.to(dtype=dtype, device=V_mP.device)
    if dtype == V_mP.dtype:
        return V_mP.T @ c_m
    made_P = torch.empty(V_mP.shape[1], dtype=dtype, device=V_mP.device)
    for begin in range(0, len(made_P), RUN):
        made_P[begin : begin + RUN] = V_mP[:, begin : begin + RUN].to(dtype).T @ c_m
    return made_P


def combinations(V_nP: Tensor, C_nm: Tensor) -> Tensor:
    """C' V in float64, shape (m, P), where the basis lies: one pass over it for all of them."""
    C_nm = C_nm.to(dtype=torch.float64, device=V_nP.device)
    made_mP = torch.empty((C_nm.shape[1], V_nP.shape[1]), dtype=torch.float64, device=V_nP.device)
    for begin in range(0, V_nP.shape[1], RUN):
        run = slice(begin, begin + RUN)
        made_mP[:, run] = C_nm.T @ V_nP[:, run].double()
    return made_mP


def cross_products(V_nP: Tensor, W_mP: Tensor) -> Tensor:
    """V W' in float64, shape (n, m), on the basis's device: one pass over it."""
    total = torch.zeros((len(V_nP), len(W_mP)), dtype=torch.float64, device=V_nP.device)
    for begin in range(0, V_nP.shape[1], RUN):
        run = slice(begin, begin + RUN)
        total += V_nP[:, run].double() @ W_mP[:, run].to(V_nP.device).double().T
    return total


def gram_of_combinations(V_nP: Tensor, C_nm: Tensor) -> Tensor:
    """Inner products of the rows C' V in float64, shape (m, m), none of which is written out."""
    C_nm = C_nm.to(dtype=torch.float64, device=V_nP.device)
    total = torch.zeros((C_nm.shape[1],) * 2, dtype=torch.float64, device=V_nP.device)
    for begin in range(0, V_nP.shape[1], RUN):
        rows = C_nm.T @ V_nP[:, begin : begin + RUN].double()
        total += rows @ rows.T
    return total


def rotate_rows(V_mP: Tensor, S_mk: Tensor) -> None:
    """Overwrite the first k rows by S' V; the other rows lose their meaning.

    Works through columns in runs, so that no second basis is ever allocated.
    """
    computed = torch.float32 if V_mP.dtype == torch.bfloat16 else V_mP.dtype
    S = S_mk.to(dtype=computed, device=V_mP.device)
    k = S.shape[1]
    # Blocks of about 2^22 numbers: large enough for the matrix product, small beside the basis.
    width = max(1, 2**22 // max(1, V_mP.shape[0]))
    for begin in range(0, V_mP.shape[1], width):
        block = V_mP[:, begin : begin + width]
        block[:k] = S.T @ block.to(computed)
