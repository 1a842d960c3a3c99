"""Seconds and bytes are those of the work."""

from __future__ import annotations

import torch

from curvtool.operators.measure import (
    graph_nodes,
    interleaved,
    median,
    memory_use,
    spread,
)
from tests.objectives import CPU


def test_memory_is_counted_to_the_byte() -> None:
    def work() -> object:
        a = torch.ones(1000)
        b = a + 1
        del a
        return b

    use = memory_use(work, CPU)
    assert use.left == 4000
    assert 8000 <= use.peak <= 8100  # the number 1 as a tensor


def test_memory_of_a_backward_pass_shows() -> None:
    x = torch.ones(500, requires_grad=True)

    def work() -> object:
        return torch.autograd.grad(x.tanh().sum(), x)

    use = memory_use(work, CPU)
    assert use.left == 2000  # the gradient
    assert use.peak >= 4000  # and the activation while it is made


def test_works_take_turns() -> None:
    order: list[str] = []
    times = interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, device=CPU
    )
    assert order == ["a", "b"] * 3
    assert [len(samples) for samples in times.values()] == [3, 3]


def test_the_middle_and_its_spread() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (4.0 - 2.0) / 2 / 3.0
    assert spread([0.0]) == 0.0


def test_nodes_of_a_graph_are_counted_once() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    # x's accumulation, the product, the sum of two views of it.
    assert graph_nodes([(y + y).sum()]) == 4
    assert graph_nodes([torch.ones(3)]) == 0
