"""What every part of the benchmarks shares: the problems, an independent product, clocks, children.

Letters: P parameters, k vectors of a block.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvtool.environment import now
from curvtool.problem.loading import LoadedProblem, ProblemRequest, load_problem

MODELS = ("mlp", "residual", "gpt")
PACKAGES = (
    *("curvtool", "torch", "numpy", "scipy"),
    *("curvlinops-for-pytorch", "hessian-eigenthings", "pyhessian"),
)
SEED = 0
Row = dict[str, Any]


class FlatCrossEntropy(nn.CrossEntropyLoss):
    """Mean cross-entropy over examples, and over tokens where there are any."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (..., C) and targets (...) to a scalar."""
        return super().forward(logits.flatten(0, -2), targets.flatten())


@dataclass(frozen=True, eq=False)
class Bench:
    """A problem as its peers see it: a plain module in eval mode, batches, a criterion.

    Attributes:
        name: of the model.
        module: float32, on the CPU, with the checkpoint's weights.
        data: batches of inputs and targets; where they are of equal sizes, their plain mean is the
            dataset mean.
        criterion: mean loss of outputs and targets.
    """

    name: str
    module: nn.Module
    data: list[tuple[Tensor, Tensor]]
    criterion: nn.Module

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The differentiated tensors, in the order of flat vectors."""
        return [p for p in self.module.parameters() if p.requires_grad]

    @property
    def size(self) -> int:
        """P."""
        return sum(p.numel() for p in self.parameters)


def load_checked(folder: Path, name: str, batch_size: int | None = None) -> LoadedProblem:
    """Read a bench model as curvtool reads it; its hook is our own, so that it is trusted."""
    return load_problem(
        ProblemRequest(
            checkpoint=Path(f"{name}.pt"),
            batch_size=batch_size,
            trust=True,
            working_directory=folder,
        )
    )


def load_bench(
    folder: Path, name: str, *, batch_size: int | None = None, equal: bool = True
) -> Bench:
    """Read a bench model for the peers.

    Args:
        folder: that `make_bench_models.py` wrote.
        name: of the model.
        batch_size: examples a batch; None leaves it to the checkpoint.
        equal: whether batches must be of equal sizes, as hessian-eigenthings needs them.

    Returns:
        The problem.

    Raises:
        ValueError: where the peers could not be given the same H: another loss than
            cross-entropy, or batches of unequal sizes.
    """
    problem = load_checked(folder, name, batch_size)
    data = [tuple(batch.fetched().tensors) for batch in problem.batches]
    if problem.spec.loss.name != "cross_entropy" or any(len(batch) != 2 for batch in data):
        raise ValueError(f"{name}: the benchmark needs inputs, targets and cross_entropy.")
    if equal and len({targets.numel() for _, targets in data}) != 1:
        raise ValueError(f"{name}: hessian-eigenthings weighs all batches alike; sizes differ.")
    module = problem.module.to(dtype=torch.float32).eval()
    return Bench(name, module, [(x, y) for x, y in data], FlatCrossEntropy())


@contextlib.contextmanager
def second_derivatives() -> Iterator[None]:
    """Attention on the one kernel that has second derivatives, for everybody alike."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def plain_gradient(bench: Bench) -> Tensor:
    """Gradient of the dataset mean, batch by batch: the unit that products are counted in."""
    total_P = torch.zeros(bench.size)
    for inputs, targets in bench.data:
        loss = bench.criterion(bench.module(inputs), targets) / len(bench.data)
        pieces = torch.autograd.grad(loss, bench.parameters)
        total_P += torch.cat([piece.reshape(-1) for piece in pieces])
    return total_P


def plain_products(bench: Bench, V_kP: Tensor) -> Tensor:
    """H V' in float64, by backward through the gradient and nothing else.

    It shares no line with the tools under test.

    Args:
        bench: the problem.
        V_kP: vectors as rows.

    Returns:
        The products as rows. Costs a gradient with its graph and k backward passes through it.
    """
    twin = Bench(bench.name, copy.deepcopy(bench.module).double(), bench.data, bench.criterion)
    sizes = [p.numel() for p in twin.parameters]
    rows = V_kP.double()
    HV_kP = torch.zeros_like(rows)
    with second_derivatives():
        for inputs, targets in twin.data:
            inputs = inputs.double() if inputs.is_floating_point() else inputs
            loss = twin.criterion(twin.module(inputs), targets) / len(twin.data)
            gradient = torch.autograd.grad(loss, twin.parameters, create_graph=True)
            for i, v_P in enumerate(rows):
                pieces = [
                    part.view_as(p)
                    for part, p in zip(torch.split(v_P, sizes), twin.parameters, strict=True)
                ]
                Hv = torch.autograd.grad(gradient, twin.parameters, pieces, retain_graph=True)
                HV_kP[i] += torch.cat([piece.reshape(-1) for piece in Hv])
    return HV_kP


def relative_residuals(bench: Bench, values: Sequence[float], vectors_kP: Tensor) -> list[float]:
    """|H y - theta y| / |theta| of pairs as they were returned, y scaled to unit length."""
    Y_kP = vectors_kP.double()
    Y_kP = Y_kP / Y_kP.norm(dim=1, keepdim=True)
    theta_k = torch.tensor(values, dtype=torch.float64)
    R_kP = plain_products(bench, Y_kP) - theta_k[:, None] * Y_kP
    return [float(x) for x in R_kP.norm(dim=1) / theta_k.abs()]


def copies(vectors_kP: Tensor) -> int:
    """How many of the vectors are copies of an earlier one (Lanczos without orthogonalisation)."""
    Y_kP = vectors_kP.double()
    Y_kP = Y_kP / Y_kP.norm(dim=1, keepdim=True)
    overlap = (Y_kP @ Y_kP.T).abs().numpy()
    return int((np.tril(overlap, -1).max(axis=1) > np.sqrt(0.5)).sum())


def random_vector(size: int) -> Tensor:
    """A Gaussian vector of unit length, the same in every process."""
    v_P = torch.randn(size, generator=torch.Generator().manual_seed(SEED))
    unit_P: Tensor = v_P / v_P.norm()
    return unit_P


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds on the wall, and the result."""
    gc.collect()  # PyHessian leaves cycles behind that somebody else would be charged with
    began = time.perf_counter()
    result = run()
    return time.perf_counter() - began, result


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run in every round, the runs taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(timed(run)[0])
    return seconds


def spread(seconds: Sequence[float]) -> float | None:
    """Distance between the quartiles over the median; None for fewer than three values."""
    if len(seconds) < 3:
        return None
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return (high - low) / statistics.median(seconds)


def reason(error: BaseException) -> str:
    """One line of why something did not run."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def resident_bytes(field: str = "VmRSS") -> int:
    """A field of /proc/self/status: VmRSS what is resident now, VmHWM the most there was."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if not found:
        raise RuntimeError(f"/proc/self/status has no {field}: memory is measured on Linux only.")
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Let VmHWM begin at what is resident now, where the kernel allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def warm_up(bench: Bench) -> None:
    """Load the libraries' kernels and threads on one example, so that none counts as memory."""
    few = Bench(
        bench.name, bench.module, [(x[:1], y[:1]) for x, y in bench.data[:1]], bench.criterion
    )
    plain_products(few, random_vector(few.size)[None])


def machine() -> Row:
    """Date, processor, threads and versions that the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": now(),
        "cpu": found[1].strip() if found else platform.processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "versions": versions,
    }


def run_child(script: Path, folder: Path, job: Row, *, timeout: float) -> list[Row]:
    """Run one job in a process of its own.

    Args:
        script: the benchmark, which takes a job after `--child`.
        folder: of the models.
        job: what is to be run; plain values.
        timeout: seconds after which it is given up.

    Returns:
        Its rows; one row with the `reason` where it failed.
    """
    command = [sys.executable, str(script), str(folder), "--child", json.dumps(job)]
    print(f"  {' '.join(str(value) for value in job.values())}", file=sys.stderr, flush=True)
    # For everybody alike what curvtool's commands set before numpy is imported.
    environment = {"OPENBLAS_THREAD_TIMEOUT": "4", **os.environ}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return [{**job, "reason": f"took more than {timeout:.0f} s"}]
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["said nothing"]
        return [{**job, "reason": f"ended with {done.returncode}: {said[-1].strip()[:200]}"}]
    rows: list[Row] = json.loads(lines[-1])
    return [{**job, **row} for row in rows]
