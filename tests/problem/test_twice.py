"""Global settings are set while they are needed and are as before afterwards, come what may."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvtool.problem.denormals import flushed_denormals, flushes_denormals
from curvtool.problem.twice import (
    AttentionSeen,
    full_precision,
    prepare_modules,
    twice_differentiable,
)

State = tuple[object, ...]
KERNELS = ("flash", "mem_efficient", "cudnn", "math")


def precision() -> State:
    matmul = torch.backends.cuda.matmul
    return (
        torch.get_float32_matmul_precision(),
        matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
    )


def kernels() -> State:
    return (
        torch.backends.mha.get_fastpath_enabled(),
        *(getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in KERNELS),
        torch.is_grad_enabled(),
    )


Setting = Callable[[], contextlib.AbstractContextManager[None]]
SETTINGS: dict[str, tuple[Setting, Callable[[], State]]] = {
    "full precision": (full_precision, precision),
    "twice differentiable": (twice_differentiable, kernels),
    "flushed denormals": (flushed_denormals, lambda: (flushes_denormals(),)),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_settings_are_as_before_however_it_ends(
    name: str, error: type[BaseException] | None
) -> None:
    setting, state = SETTINGS[name]
    before = state()
    with pytest.raises(error) if error else contextlib.nullcontext(), setting():
        assert state() != before
        if error:
            raise error
    assert state() == before


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_nest(name: str) -> None:
    setting, state = SETTINGS[name]
    before = state()
    with setting():
        inside = state()
        with setting():
            assert state() == inside
        assert state() == inside
    assert state() == before


@pytest.mark.parametrize("chosen", ["high", "medium"])
def test_a_chosen_precision_comes_back(chosen: str) -> None:
    default = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(chosen)
    try:
        with full_precision():
            assert precision() == ("highest", False, False, False, False)
        assert torch.get_float32_matmul_precision() == chosen
    finally:
        torch.set_float32_matmul_precision(default)


def test_forward_passes_have_a_graph_on_the_math_kernel_alone() -> None:
    with torch.no_grad(), twice_differentiable():
        assert kernels() == (False, False, False, False, True, True)


def test_a_fast_path_that_was_off_stays_off() -> None:
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with twice_differentiable():
            pass
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_the_callers_choice_of_kernel_comes_back() -> None:
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION]):
        before = kernels()
        with twice_differentiable():
            pass
        assert kernels() == before


def test_attention_can_be_differentiated_twice_only_inside() -> None:
    q = torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def second() -> Tensor:
        value = F.scaled_dot_product_attention(q, q, q).square().sum()
        (gradient,) = torch.autograd.grad(value, q, create_graph=True)
        (product,) = torch.autograd.grad(gradient.sum(), q)
        return product

    with pytest.raises(RuntimeError, match="not implemented"):
        second()
    with twice_differentiable():
        assert bool(second().isfinite().all())


def _multihead(*, need_weights: bool) -> Callable[[Tensor], object]:
    module = nn.MultiheadAttention(8, 2, batch_first=True)
    return lambda x: module(x, x, x, need_weights=need_weights)


ATTENTION: dict[str, tuple[Callable[[], Callable[[Tensor], object]], bool]] = {
    "function": (lambda: lambda x: F.scaled_dot_product_attention(x, x, x), True),
    "torch.nn.functional": (
        lambda: lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x),
        True,
    ),
    "multihead without weights": (lambda: _multihead(need_weights=False), True),
    "multihead with weights": (lambda: _multihead(need_weights=True), False),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval(), True),
    "linear": (lambda: nn.Linear(8, 8), False),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_fused_attention_is_seen_where_it_is(name: str) -> None:
    build, expected = ATTENTION[name]
    attention = AttentionSeen()
    model = build()
    with twice_differentiable(), attention:
        model(torch.ones(2, 3, 8))
    assert attention.seen is expected


def test_train_mode_batch_norm_moves_no_statistics_and_is_named() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    module[2].eval()
    x = torch.arange(12.0).view(4, 3)
    expected = nn.BatchNorm1d(3)(x)
    assert prepare_modules(module) == ["0"]
    before = {k: t.clone() for k, t in module.state_dict().items()}
    assert torch.equal(module[0](x), expected)
    module(x)
    assert all(torch.equal(before[k], t) for k, t in module.state_dict().items())
    assert prepare_modules(module.eval()) == []


def test_sparse_embeddings_become_dense_and_give_the_same_values() -> None:
    module = nn.Embedding(5, 3, sparse=True)
    tokens = torch.tensor([1, 1, 4])
    expected = module(tokens).detach()
    prepare_modules(module)
    values = module(tokens)
    assert torch.equal(values.detach(), expected)
    (gradient,) = torch.autograd.grad(values.square().sum(), module.weight)
    assert not gradient.is_sparse


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_squared_errors_are_written_out_with_the_same_value(reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64).unbind()
    expected = F.mse_loss(a, b, reduction=reduction)
    with twice_differentiable():
        # A sum of twelve squares in another order.
        assert torch.allclose(F.mse_loss(a, b, reduction=reduction), expected, rtol=1e-14)
        assert torch.allclose(nn.MSELoss(reduction=reduction)(a, b), expected, rtol=1e-14)


def test_squared_errors_can_be_differentiated_in_forward_mode() -> None:
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)

    def gradient(at: Tensor) -> Tensor:
        with twice_differentiable():
            found: Tensor = torch.func.grad(lambda a: F.mse_loss(a, torch.ones_like(a)))(at)
        return found

    product = torch.func.jvp(gradient, (x,), (x,))[1]
    assert torch.allclose(product, 2 / 5 * x)


def test_unusual_squared_errors_are_left_to_torch() -> None:
    a, b = torch.ones(4, 3), torch.ones(3)
    with twice_differentiable():
        with pytest.warns(UserWarning, match="target size"):
            F.mse_loss(a, b)
        with pytest.raises(ValueError, match="not a valid value"):
            F.mse_loss(a, a, reduction="median")


def test_what_is_below_the_smallest_normal_number_is_zero_meanwhile() -> None:
    small = torch.tensor([1e-20])
    with flushed_denormals():
        assert flushes_denormals()
        assert float(small * small) == 0.0  # 1e-40
        with flushed_denormals():
            pass
        assert flushes_denormals()  # as it was found
    assert float(small * small) > 0
