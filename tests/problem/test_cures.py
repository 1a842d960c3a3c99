"""What is rewritten computes what it computed, and can be differentiated twice."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from curvtool.problem.cures import cured, unwrapped
from tests.objectives import dense_hessian, normal, seeded

SHAPES: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "linear": (lambda: nn.Linear(4, 3), normal(5, 4)),
    "conv": (lambda: nn.Conv2d(2, 3, 2), normal(2, 2, 3, 3)),
    "transposed conv": (lambda: nn.ConvTranspose1d(2, 3, 2), normal(2, 2, 3)),
}


def old_weight_norm(module: nn.Module, dim: int | None) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed: nn.Module = torch.nn.utils.weight_norm(module, dim=dim)  # type: ignore[arg-type]
    return normed


def new_weight_norm(module: nn.Module, dim: int | None) -> nn.Module:
    normed: nn.Module = parametrizations.weight_norm(module, dim=dim)  # type: ignore[arg-type]
    return normed


@pytest.mark.parametrize("dim", [0, 1, None, -1, -2])
@pytest.mark.parametrize("norm", [old_weight_norm, new_weight_norm])
@pytest.mark.parametrize("shape", SHAPES)
def test_weight_norm_written_out_is_weight_norm(
    shape: str, norm: Callable[[nn.Module, int | None], nn.Module], dim: int | None
) -> None:
    build, x = SHAPES[shape]
    module = seeded(lambda: norm(build(), dim)).double()
    # Its g belongs to other directions than those drawn, whatever the dimension.
    expected = module(x).detach()
    names = list(module.state_dict())
    written = cured(module)
    assert written is module
    # Sums of four to eight squares in another order, and a root.
    assert torch.allclose(written(x), expected, rtol=1e-14, atol=1e-14)
    assert list(written.state_dict()) == names


def test_weight_norm_of_a_vector() -> None:
    module = seeded(lambda: new_weight_norm(nn.LayerNorm(4), 0)).double()
    expected = module(normal(3, 4)).detach()
    assert torch.allclose(cured(module)(normal(3, 4)), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("norm", [old_weight_norm, new_weight_norm])
@pytest.mark.parametrize("dim", [0, None])
def test_its_second_derivative_is_right(
    norm: Callable[[nn.Module, int | None], nn.Module], dim: int | None
) -> None:
    x = normal(5, 4)
    module = cured(seeded(lambda: norm(nn.Linear(4, 3), dim)).double())

    def mean(m: nn.Module) -> Tensor:
        return torch.tanh(m(x)).square().mean()

    parameters = list(module.parameters())
    gradients = torch.autograd.grad(mean(module), parameters, create_graph=True)
    gradient_P = torch.cat([g.reshape(-1) for g in gradients])
    rows = [torch.autograd.grad(g, parameters, retain_graph=True) for g in gradient_P]
    H_PP = torch.stack([torch.cat([p.reshape(-1) for p in row]) for row in rows])
    # Forward mode by another route, rounding of some tens of eps apart.
    truth_PP = dense_hessian(module, mean)
    assert float((H_PP - truth_PP).norm()) <= 1e-13 * float(truth_PP.norm())


def test_no_class_of_torch_is_changed() -> None:
    module = new_weight_norm(nn.Linear(4, 3), 0)
    before = nn.LSTM.forward, torch._weight_norm
    cured(nn.ModuleList([module, nn.LSTM(3, 2), nn.InstanceNorm1d(2)]))
    assert (nn.LSTM.forward, torch._weight_norm) == before
    other = new_weight_norm(nn.Linear(4, 3), 0)
    assert type(other.parametrizations.weight[0]).__name__ == "_WeightNorm"  # type: ignore[union-attr, index]


class Wrapped(nn.Module):
    """Has compiled parts, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        shared: Any = torch.compile(nn.Linear(3, 3))
        self.blocks = nn.Sequential(shared, nn.Tanh(), shared)
        self.head = nn.DataParallel(nn.Linear(3, 2))
        self.nothing = None

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.blocks(x))
        return output


def test_wrappers_are_taken_off_at_every_depth() -> None:
    module: nn.Module = torch.compile(nn.DataParallel(Wrapped()))  # type: ignore[assignment]
    plain = unwrapped(module)
    assert type(plain) is Wrapped
    names = ["blocks.0.weight", "blocks.0.bias", "head.weight", "head.bias"]
    assert [name for name, _ in plain.named_parameters()] == names
    assert plain.blocks[0] is plain.blocks[2]
    assert unwrapped(plain) is plain


def test_a_module_compiled_in_place_is_plain_again() -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    module[0].compile(backend="aot_eager")
    assert module[0]._compiled_call_impl is not None
    assert cured(module)[0]._compiled_call_impl is None  # type: ignore[index]
    assert module(torch.ones(1, 3)).grad_fn.name() == "AddmmBackward0"


def test_distributed_wrappers_are_taken_off() -> None:
    store = torch._C._distributed_c10d.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        module = nn.Linear(3, 2)
        assert unwrapped(nn.parallel.DistributedDataParallel(module)) is module
    finally:
        torch.distributed.destroy_process_group()


RECURRENT: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: nn.LSTM(3, 2, num_layers=2, bidirectional=True),
    "gru": lambda: nn.GRU(3, 2),
    "rnn": lambda: nn.RNN(3, 2),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_give_the_same_values(name: str) -> None:
    module = seeded(RECURRENT[name]).float()
    x = normal(4, 2, 3, dtype=torch.float32)
    expected = module(x)[0].detach()
    written = copy.deepcopy(cured(module))
    del module
    # Another kernel: four steps of sums of a few products.
    assert torch.allclose(written(x)[0], expected, atol=1e-6)
    assert written.forward.__self__ is written  # type: ignore[attr-defined]


@pytest.mark.parametrize("fails", [False, True])
def test_kernels_are_switched_back_whatever_happens(fails: bool) -> None:
    module = cured(nn.LSTM(3, 2))
    before = torch._C._get_cudnn_enabled(), torch._C._get_mkldnn_enabled()
    if fails:
        with pytest.raises(RuntimeError):
            module(torch.ones(4, 2, 5))
    else:
        module(torch.ones(4, 2, 3))
    assert (torch._C._get_cudnn_enabled(), torch._C._get_mkldnn_enabled()) == before


def test_a_forward_of_the_users_own_stays() -> None:
    module = nn.LSTM(3, 2)
    module.forward = lambda x: (x, None)  # type: ignore[assignment, method-assign]
    x = torch.ones(4, 2, 3)
    assert cured(module)(x)[0] is x


@pytest.mark.parametrize("train", [True, False])
def test_instance_norm_moves_no_statistics(train: bool) -> None:
    module = seeded(lambda: nn.InstanceNorm1d(2, affine=True, track_running_stats=True)).train(
        train
    )
    module = module.double()
    x = normal(3, 2, 5)
    expected = copy.deepcopy(module)(x)
    before = {name: b.clone() for name, b in module.named_buffers()}
    # The means of the batch are taken over other groups of the same numbers.
    assert torch.allclose(cured(module)(x), expected, rtol=1e-13, atol=1e-13)
    assert all(torch.equal(before[name], b) for name, b in module.named_buffers())


def test_a_second_cure_changes_nothing() -> None:
    module = cured(nn.Sequential(new_weight_norm(nn.Linear(3, 3), 0), nn.Tanh()))
    parts = list(module.modules())
    assert cured(module) is module
    assert [a is b for a, b in zip(parts, module.modules(), strict=True)] == [True] * len(parts)
