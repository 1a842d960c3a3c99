"""What `--shard-params` takes: memory of a rank by the number of ranks, and the price of a product.

    python scripts/bench_sharding.py memory     # ranks on this machine, float32, a deep MLP
    python scripts/bench_sharding.py price      # one process: a product in gradients

The memory is the kernel's own figure for each process (VmHWM), beyond what Python and torch take
before the model is built. The model is built on the meta device and its numbers are made tensor by
tensor, so that no rank ever holds it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from curvtool.distributed.group import Alone, Group, Ranks
from curvtool.distributed.launch import Launch
from curvtool.distributed.shares import Shares
from curvtool.operators.sharding.hessian import ShardedHessian
from curvtool.operators.sharding.placing import shard
from curvtool.problem.batch import Batch, Loss
from curvtool.problem.losses import resolve_loss
from curvtool.problem.models import cnn, gpt, mlp
from curvtool.problem.objective import Objective
from curvtool.problem.spec import DataSpec, LossSpec, ModelSpec, Origin, ProblemSpec

CPU = torch.device("cpu")
WIDTH, LAYERS, EXAMPLES = 1536, 24, 16
MIB = 2**20
REPEATS = 7


def main() -> None:
    """Run the measurement that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "price"])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    if arguments.what == "memory":
        print_memory(arguments.ranks)
    else:
        print_prices()


def print_memory(sizes: list[int]) -> None:
    """A table of the largest rank's memory."""
    layer = 4 * WIDTH * WIDTH / MIB
    print(f"{LAYERS} layers of {layer:.1f} MiB: {LAYERS * layer:.0f} MiB of parameters")
    print("ranks   share MiB   peak MiB   peak less 3 shares, in layers   product s")
    for size in sizes:
        peak, seconds = max(_of_ranks(size))
        share = LAYERS * layer / size
        print(
            f"{size:5d}   {share:9.1f}   {peak:8.1f}   {(peak - 3 * share) / layer:29.1f}"
            f"   {seconds:9.2f}"
        )


def _of_ranks(size: int) -> list[tuple[float, float]]:
    """Peak MiB and seconds a product of each rank."""
    # Every tensor in pages of its own, which go back to the system: else the peak depends on how
    # the C library reuses memory.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with socket.socket() as found, tempfile.TemporaryDirectory() as folder:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        found.close()
        ranks = [
            context.Process(target=_rank, args=(rank, size, port, folder)) for rank in range(size)
        ]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(600)
            if rank.exitcode != 0:
                for other in ranks:
                    other.kill()
                raise SystemExit(f"a rank of {size} failed")
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(size)]


def _rank(rank: int, size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    launch = Launch(rank, size, rank, size, "127.0.0.1", port)
    group = Alone() if size == 1 else Ranks(launch, CPU, patience=300.0)
    _warm(group)
    before = _resident("VmRSS")
    H = _deep(group, WIDTH, LAYERS, EXAMPLES)
    v_p = torch.randn(Shares(H.size, size).length(rank), generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(2):
        began = time.perf_counter()
        H.matvec(v_p)
        times.append(time.perf_counter() - began)
    torch.save(((_resident("VmHWM") - before) / MIB, min(times)), Path(folder) / f"{rank}.pt")
    if isinstance(group, Ranks):
        group.close()


def _warm(group: Group) -> None:
    """Everything that is loaded and allocated once, by a small model."""
    H = _deep(group, 32, 2, 4)
    H.matvec(torch.ones(Shares(H.size, group.size).length(group.rank)))


def _deep(group: Group, width: int, layers: int, examples: int) -> ShardedHessian:
    generator = torch.Generator().manual_seed(1)

    def numbers(_: str, p: nn.Parameter) -> Tensor:
        return torch.randn(p.shape, generator=generator).div_(p.shape[-1] ** 0.5)

    with torch.device("meta"):
        module = mlp(sizes=[width] * (layers + 1), activation="tanh", bias=False).eval()
    made = shard(module, group, device=CPU, dtype=torch.float32, source=numbers)
    return ShardedHessian(made, _loss(), [_rows(examples, width)])


def _resident(name: str) -> int:
    """Bytes, by the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def print_prices() -> None:
    """A table of products in gradients."""
    torch.set_num_threads(1)
    print("model             gradient s   product s   price in gradients")
    tokens = torch.randint(256, (8, 128), generator=torch.Generator().manual_seed(2))
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    ten = torch.randint(10, (64,), generator=torch.Generator().manual_seed(4))
    problems: dict[str, tuple[Callable[[], nn.Module], Batch]] = {
        "mlp": (lambda: mlp(sizes=[512] * 6, activation="tanh"), _rows(512, 512)),
        "gpt": (
            lambda: gpt(vocab_size=256, context=128, width=256, layers=4, heads=4),
            Batch((tokens, tokens.roll(-1, 1)), len(tokens)),
        ),
        "cnn": (
            lambda: cnn(in_channels=3, channels=[64, 128, 256], classes=10),
            Batch((images, ten), len(images)),
        ),
    }
    for name, (build, batch) in problems.items():
        torch.manual_seed(0)
        objective = Objective(build(), _loss(), [batch], device=CPU, dtype=torch.float32)
        objective.evaluate()
        module = build().eval()
        H = ShardedHessian(
            shard(module, Alone(), device=CPU, dtype=torch.float32), _loss(), [batch]
        )
        gradient, product = _seconds(
            partial(_gradient, objective), partial(H.matvec, torch.randn(H.size))
        )
        print(f"{name:16s}  {gradient:10.3f}   {product:9.3f}   {product / gradient:18.2f}")


def _gradient(objective: Objective) -> object:
    return torch.autograd.grad(objective.batch_loss(0), objective.parameters)


def _seconds(*runs: Callable[[], object]) -> list[float]:
    """The medians of several runs in turn, after one that is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(REPEATS + 1):
        for run, of_run in zip(runs, times, strict=True):
            # Of this thread alone, which computes everything: others on the machine do not count.
            began = time.thread_time()
            run()
            of_run.append(time.thread_time() - began)
    return [statistics.median(of_run[1:]) for of_run in times]


def _rows(examples: int, width: int) -> Batch:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(examples, width, generator=generator)
    return Batch((x, torch.randint(width, (examples,), generator=generator)), examples)


def _loss() -> Loss:
    origin = Origin("bench", Path(), trusted=True)
    return resolve_loss(
        ProblemSpec(
            ModelSpec("mlp", origin),
            DataSpec("npz:d.npz", origin),
            LossSpec("cross_entropy", origin),
        )
    )


if __name__ == "__main__":
    main()
