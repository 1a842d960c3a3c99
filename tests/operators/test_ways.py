"""What single ways owe beyond the laws of `tests/conformance.py`."""

from __future__ import annotations

import warnings
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from curvtool.config import Way as WayName
from curvtool.errors import InputError
from curvtool.operators.hessian import HessianOperator
from curvtool.operators.memory import SavedBytes
from curvtool.operators.ways import compiled
from curvtool.operators.ways.compile_probe import CompileFailure, probe_compilation
from curvtool.operators.ways.differences import differences, estimated_error, finite_difference
from curvtool.operators.ways.forward import dual_numbers, functional
from curvtool.operators.ways.registry import WAYS, way_named
from curvtool.operators.ways.reverse import graph_bytes, reverse_over_reverse
from curvtool.operators.ways.traced import traced_forward, traced_reverse
from curvtool.problem.objective import Objective
from tests.objectives import CASES, CPU, batches, cross_entropy, hook, labels, normal

EPS = torch.finfo(torch.float64).eps


def _pieces(objective: Objective, seed: int = 0) -> tuple[Tensor, ...]:
    return objective.layout.split(normal(objective.size, seed=seed).to(objective.dtype))


def _apart(objective: Objective, a: Any, b: Any) -> float:
    whole = objective.layout.join(b)
    return float((objective.layout.join(a) - whole).norm() / whole.norm())


def test_the_command_line_knows_every_way() -> None:
    assert set(get_args(WayName)) == {"auto", *WAYS}
    for way in WAYS.values():
        assert way_named(way.rest).rebuild is not None
        assert (way.rebuild is None) is way.keeps
        assert not way.checked_as or way_named(way.checked_as).exact


@pytest.mark.parametrize("name", ["tanh", "cnn", "gpt", "masked-weighted"])
def test_both_routes_of_forward_mode_give_one_product(name: str) -> None:
    objective = CASES[name].objective()
    v = _pieces(objective)
    first, second = functional(objective, 0, v), dual_numbers(objective, 0, v)
    assert _apart(objective, first, second) <= 1e4 * EPS  # the same operations, other orders


class ReadsValues(nn.Module):
    """Code that looks at values, which torch.func refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = torch.tanh(self.layer(x))
        return output if float(output.detach().abs().max()) < 2 else output * 0


@pytest.mark.parametrize("way", [name for name in WAYS if WAYS[name].exact and name != "compiled"])
def test_code_that_reads_values_is_no_hindrance_where_it_need_not_be(way: str) -> None:
    values = (normal(9, 4), labels(3, 9))
    objective = Objective(
        ReadsValues().double(),
        hook(cross_entropy),
        batches(values, 4),
        device=CPU,
        dtype=torch.float64,
    )
    v_P = normal(objective.size)
    expected = HessianOperator(objective, way="reverse-over-reverse").matvec(v_P)
    if way == "reverse-over-forward":  # torch.func alone
        return
    found = HessianOperator(objective, way=way).matvec(v_P)
    assert float((found - expected).norm() / expected.norm()) <= 1e4 * EPS


@pytest.mark.parametrize("name", ["tanh", "cnn"])
def test_the_linearisation_is_that_of_torch(name: str) -> None:
    objective = CASES[name].objective()
    objective.evaluate()
    v = _pieces(objective)
    names = [f"module.{n}" for n in objective.layout.names]

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = objective.module

        def forward(self) -> Tensor:
            return objective.batch_loss(0)

    def loss(*parameters: Tensor) -> Tensor:
        found: Tensor = functional_call(Mean(), dict(zip(names, parameters, strict=True)), ())
        return found

    everything = tuple(range(len(v)))
    primals = [p.detach() for p in objective.parameters]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own divider of constants warns of itself
        _, linear = torch.func.linearize(torch.func.grad(loss, argnums=everything), *primals)
    assert _apart(objective, traced_forward(objective, 0)(v), linear(*v)) <= 1e4 * EPS


@pytest.mark.parametrize("trace", [traced_forward, traced_reverse])
def test_batches_of_one_shape_share_a_program(trace: Any) -> None:
    objective = CASES["tanh"].objective(batch_size=6)  # 6, 6, 6, 5
    first, second, *_, last = (trace(objective, index) for index in range(4))
    assert first.signature == second.signature != last.signature
    v = _pieces(objective)
    expected = reverse_over_reverse(objective, 1, v)
    swapped = type(first)(first.program, second.constants, second.bytes)
    assert _apart(objective, swapped(v), expected) <= 1e4 * EPS


@pytest.mark.parametrize("trace", [traced_forward, traced_reverse])
def test_a_program_keeps_no_graph(trace: Any) -> None:
    objective = CASES["gpt"].objective()
    objective.evaluate()
    traced = trace(objective, 0)
    assert not any(c.requires_grad for c in traced.constants)
    known = {t.untyped_storage().data_ptr() for t in objective.resident_tensors(0)}
    held = {c.untyped_storage().data_ptr(): c.untyped_storage().nbytes() for c in traced.constants}
    assert traced.bytes == sum(n for pointer, n in held.items() if pointer not in known)


@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_length_of_the_vector_does_not_change_the_step(scale: float, seed: int) -> None:
    objective = CASES["tanh"].objective()
    v = _pieces(objective, seed)
    exact = reverse_over_reverse(objective, 0, v)
    scaled = finite_difference(objective, 0, [scale * piece for piece in v])
    # Truncation: the square of the step, 1e-10, times third over first derivatives, of size 100.
    assert _apart(objective, [piece / scale for piece in scaled], exact) <= 1e-7


@pytest.mark.parametrize("name", ["tanh", "cnn", "gpt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_estimate_covers_the_error_of_differences(name: str, dtype: torch.dtype) -> None:
    objective = CASES[name].objective(dtype=dtype)
    for seed in range(5):
        v = _pieces(objective, seed)
        found = finite_difference(objective, 0, v)
        error = _apart(objective, found, reverse_over_reverse(objective, 0, v))
        # Rounding of one step does not tell that of another: within a factor of four.
        assert error <= 4 * estimated_error(objective, 0, v) + 1e3 * torch.finfo(dtype).eps


def test_differences_leave_every_bit_of_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = CASES["cnn"].objective(dtype=torch.float32)
    objective.evaluate()
    before = [(p.clone(), p.data_ptr(), p._version) for p in objective.parameters]
    v = _pieces(objective)
    finite_difference(objective, 0, v)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", fail)
        with pytest.raises(KeyboardInterrupt):
            finite_difference(objective, 0, v)
    for p, (values, pointer, version) in zip(objective.parameters, before, strict=True):
        assert p.data_ptr() == pointer
        assert p._version == version
        assert torch.equal(p, values)
        assert isinstance(p, nn.Parameter)


def test_differences_along_nothing_are_nothing() -> None:
    objective = CASES["tanh"].objective()
    zeros = [torch.zeros_like(p) for p in objective.parameters]
    assert not any(piece.any() for piece in finite_difference(objective, 0, zeros))
    assert estimated_error(objective, 0, zeros) == 0


def test_half_precision_has_no_differences() -> None:
    objective = CASES["tanh"].objective(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"dtype=torch\.float32"):
        finite_difference(objective, 0, _pieces(objective))


def test_differences_converge_as_the_square_of_the_step() -> None:
    objective = CASES["tanh"].objective()
    v = _pieces(objective)
    exact = reverse_over_reverse(objective, 0, v)
    errors = [
        _apart(objective, differences(objective, 0, v, step=step), exact) for step in (1e-2, 5e-3)
    ]
    assert 3.8 <= errors[0] / errors[1] <= 4.2  # 4, and the next term of the series


def test_kept_graphs_take_what_was_measured() -> None:
    objective = CASES["cnn"].objective()
    operator = HessianOperator(objective, graph_memory=10**9)
    assert operator.bytes_kept == sum(graph_bytes(objective, i) for i in objective.active)
    with SavedBytes(()) as saved:
        pass
    assert saved.total == 0


def test_a_compiler_that_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(program: Any) -> Any:
        def run(*args: Any) -> Any:
            raise torch._dynamo.exc.InternalTorchDynamoError("no compiler here")

        return run

    import torch._dynamo.exc

    monkeypatch.setattr(compiled, "compiled", broken)
    operator = HessianOperator(CASES["tanh"].objective(), way="compiled")
    with pytest.raises(InputError, match=r"no compiler here.*--hvp auto"):
        operator.matvec(normal(operator.size))


def test_a_compiler_that_takes_too_long_is_ended() -> None:
    objective = CASES["tanh"].objective()
    traced = traced_reverse(objective, 0)
    with pytest.raises(CompileFailure, match="not compiled within 0 s"):
        probe_compilation(traced, _pieces(objective), device=CPU, most_seconds=0.01)


def test_a_child_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = CASES["tanh"].objective()
    traced = traced_reverse(objective, 0)
    with pytest.raises(CompileFailure, match="ended with code"):
        # Constants without the vector: the program lacks inputs.
        probe_compilation(traced, (), device=CPU, most_seconds=120)
