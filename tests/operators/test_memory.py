"""What kept graphs take: measured a second way, bounded as asked, and no vector of P a batch."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.memory import (
    SavedBytes,
    control_group_room,
    default_memory,
    is_shortage,
)
from curvtool.operators.ways.reverse import graph_bytes
from curvtool.problem.batch import Batch
from curvtool.problem.models import cnn, gpt, mlp
from curvtool.problem.objective import Objective
from tests.objectives import (
    CPU,
    batches,
    builtin,
    cross_entropy,
    hook,
    labels,
    normal,
    seeded,
)

SIZES = (8, 16, 32, 64)
LARGE: dict[str, Callable[[], Objective]] = {
    "mlp": lambda: _objective(
        lambda: mlp(sizes=[8, 64, 64, 3], activation="tanh"),
        [Batch((normal(n, 8), labels(3, n)), n) for n in SIZES],
    ),
    "cnn": lambda: _objective(
        lambda: cnn(in_channels=1, channels=[8, 8], classes=3),
        [Batch((normal(n, 8, 8), labels(3, n)), n) for n in SIZES],
    ),
    "gpt": lambda: _objective(
        lambda: gpt(vocab_size=8, context=8, width=16, layers=2, heads=2),
        [Batch((labels(8, n, 7), labels(8, n, 7)), n) for n in SIZES],
    ),
}


def _objective(build: Callable[[], nn.Module], cut: list[Batch]) -> Objective:
    return Objective(
        seeded(build).double(), builtin("cross_entropy"), cut, device=CPU, dtype=torch.float64
    )


def _held_by_graph(objective: Objective, index: int) -> int:
    """Bytes of the tensors that the nodes of a gradient's graph hold: a second measure."""
    resident = {t.untyped_storage().data_ptr() for t in objective.resident_tensors(index)}
    waiting: list[Any] = [g.grad_fn for g in objective.batch_gradient(index)]
    nodes, storages = set(), {}
    while waiting:
        node = waiting.pop()
        if node is None or node in nodes:
            continue
        nodes.add(node)
        waiting += [further for further, _ in node.next_functions]
        for name in dir(node):
            saved = getattr(node, name) if name.startswith("_saved_") else None
            for t in saved if isinstance(saved, list | tuple) else [saved]:
                if isinstance(t, Tensor):
                    storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
    return sum(size for address, size in storages.items() if address not in resident)


@pytest.mark.parametrize("name", LARGE)
def test_graph_bytes_are_what_the_graph_holds(name: str) -> None:
    objective = LARGE[name]()
    for index in range(len(SIZES)):
        measured, held = graph_bytes(objective, index), _held_by_graph(objective, index)
        # What is saved by nodes that are not on a path to the parameters is gone with the pass.
        assert held <= measured <= 1.1 * held


@pytest.mark.parametrize("name", LARGE)
def test_graph_bytes_grow_with_the_batch(name: str) -> None:
    objective = LARGE[name]()
    measured = [graph_bytes(objective, index) for index in range(len(SIZES))]
    assert measured == sorted(measured)
    # Twice the examples take at most twice the memory: parameters do not double.
    assert all(b <= 2 * a for a, b in pairwise(measured))
    assert measured[-1] > 2 * measured[0]


def test_measuring_leaves_nothing_behind() -> None:
    objective = LARGE["mlp"]()
    graph_bytes(objective, 0)

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    before = alive()
    for _ in range(3):
        graph_bytes(objective, 0)
    assert alive() == before


def test_a_view_of_the_data_counts_for_nothing() -> None:
    big = normal(10_000, 8)
    cut = [Batch((big[:8], labels(3, 8)), 8)]
    objective = _objective(lambda: mlp(sizes=[8, 4, 3], activation="tanh"), cut)
    assert graph_bytes(objective, 0) < big.nbytes / 10


@given(share=st.floats(0, 1.2))
@settings(max_examples=20, deadline=None)
def test_the_limit_is_kept_and_used(share: float) -> None:
    cut = batches((normal(50, 8), labels(3, 50)), 8)
    objective = _objective(lambda: mlp(sizes=[8, 16, 3], activation="tanh"), cut)
    sizes = [graph_bytes(objective, index) for index in range(len(cut))]
    limit = int(share * sum(sizes))
    operator = HessianOperator(objective, graph_memory=limit)
    kept = len(operator.kept)
    assert operator.kept == tuple(range(kept))
    assert operator.bytes_kept == sum(sizes[:kept]) <= limit
    assert kept == len(cut) or sum(sizes[: kept + 1]) > limit


def test_batches_of_other_shapes_are_measured_on_their_own() -> None:
    # Sequences of 1, 7, 2, ... tokens: attention makes the second far larger than the first.
    lengths = (1, 7, 2, 7)
    cut = [Batch((labels(8, 16, t), labels(8, 16, t)), 16) for t in lengths]
    objective = _objective(lambda: gpt(vocab_size=8, context=8, width=8, layers=1, heads=2), cut)
    sizes = [graph_bytes(objective, index) for index in range(4)]
    assert sizes[1] > 4 * sizes[0]
    operator = HessianOperator(objective, graph_memory=sizes[0] + sizes[1] - 1)
    assert operator.kept == (0,)
    assert operator.bytes_kept == sizes[0]


def test_without_a_limit_every_batch_is_kept() -> None:
    objective = LARGE["mlp"]()
    assert HessianOperator(objective).kept == (0, 1, 2, 3)
    assert HessianOperator(objective, graph_memory=0).kept == ()


def _resident_set() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_kept_batches_hold_no_vector_of_p_each() -> None:
    width, kept = 2200, 8
    # 39 MB, which the allocator gives back at once (its limit is 32); 8 gradients were 310 MB.
    vector = width * width * 8
    x = normal(kept, width)

    def loss(model: nn.Module, values: Any) -> Tensor:
        output: Tensor = model(values[0])
        return output.tanh().square().mean()

    objective = Objective(
        seeded(lambda: nn.Linear(width, width, bias=False)),
        hook(loss),
        batches((x,), 1),
        device=CPU,
        dtype=torch.float64,
    )
    objective.evaluate()
    assert graph_bytes(objective, 0) < vector / 20
    gc.collect()
    before = _resident_set()
    operator = HessianOperator(objective)
    assert len(operator.kept) == kept
    # The sum of the gradients is one vector; two more for what the allocator keeps.
    assert _resident_set() - before <= 3 * vector


def test_storages_are_counted_once_and_known_ones_not_at_all() -> None:
    a = normal(100).requires_grad_()
    known = normal(100)
    with SavedBytes([known]) as saved:
        b = a.exp()  # keeps its result
        (b.view(10, 10) * known.view(10, 10)).sum()  # keeps both factors
        b[:50].sin()  # keeps a view of it
    assert saved.total == b.nbytes


def test_the_default_is_a_share_of_what_is_free() -> None:
    total = default_memory(CPU)
    assert total > 0
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        free = next(s for s in meminfo.read_text().splitlines() if s.startswith("MemAvailable"))
        # What is free changes while we look: 0.6 of it, with room.
        assert total <= 0.9 * 1024 * int(free.split()[1])


def _dict_mean(model: nn.Module, values: Mapping[str, Tensor]) -> Tensor:
    return cross_entropy(model, (values["x"], values["y"]))


def test_batches_that_are_dicts_are_measured_too() -> None:
    cut = batches({"x": normal(20, 8), "y": labels(3, 20)}, 8)
    objective = Objective(
        seeded(lambda: mlp(sizes=[8, 16, 3], activation="tanh")),
        hook(_dict_mean),
        cut,
        device=CPU,
        dtype=torch.float64,
    )
    assert graph_bytes(objective, 0) > graph_bytes(objective, 2) > 0


def _group(folder: Path, names: tuple[str, str], limit: str, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, (limit, str(used)), strict=True):
        (folder / name).write_text(text + "\n")


V2 = ("memory.max", "memory.current")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def test_limits_of_control_groups_count_from_the_own_one_upwards(tmp_path: Path) -> None:
    membership, mounted = tmp_path / "cgroup", tmp_path / "fs"
    membership.write_text("0::/slurm/job_7/step_0\n")
    _group(mounted / "slurm/job_7/step_0", V2, "max", 5)
    _group(mounted / "slurm/job_7", V2, "1000", 300)
    _group(mounted / "slurm", V2, "5000", 4900)
    assert sorted(set(control_group_room(membership, mounted))) == [100, 700]


def test_limits_of_the_first_version_count_too(tmp_path: Path) -> None:
    membership, mounted = tmp_path / "cgroup", tmp_path / "fs"
    membership.write_text("9:cpu,cpuacct:/a\n4:memory:/job\n")
    _group(mounted / "memory/job", V1, "900", 1000)
    assert set(control_group_room(membership, mounted)) == {0}


def test_a_path_of_the_host_falls_back_to_the_root(tmp_path: Path) -> None:
    membership, mounted = tmp_path / "cgroup", tmp_path / "fs"
    membership.write_text("0::/../../kubepods/pod1\n")
    _group(mounted, V2, "2000", 500)
    assert 1500 in control_group_room(membership, mounted)
    assert control_group_room(tmp_path / "none", mounted) == []


@pytest.mark.parametrize(
    ("error", "shortage"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("DefaultCPUAllocator"), False),
    ],
)
def test_want_of_memory_is_told_from_other_errors(error: Exception, shortage: bool) -> None:
    assert is_shortage(error) is shortage
