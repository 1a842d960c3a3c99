"""From torch's errors about derivatives to sentences; all other errors as they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from curvtool.errors import PreflightError
from curvtool.problem.copying import copied
from curvtool.problem.derivatives import missing_derivatives_named

MISSING = "derivative for aten::{} is not implemented"


class Block(nn.Module):
    """The operation stands in the code of the block itself, between two of its children."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.last = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(nn.functional.hardsigmoid(self.first(x)))
        return output


def sentence(module: nn.Module, error: RuntimeError) -> str:
    def run() -> Tensor:
        result: Tensor = module(torch.ones(2, 3))
        return result

    with pytest.raises(PreflightError) as caught, missing_derivatives_named(module, run):
        raise error
    assert caught.value.__cause__ is error
    hooks = [m for m in module.modules() if m._forward_hooks]
    assert hooks == []
    return str(caught.value)


@pytest.mark.parametrize(
    ("module", "place"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.Hardsigmoid()), "used in 1 (Hardsigmoid)."),
        (nn.Sequential(nn.Linear(3, 3), nn.Sequential(Block())), "used in 1.0 (Block)."),
        (Block(), "used in the model (Block)."),
        (nn.Linear(3, 3), "of hardsigmoid."),  # in the loss, say
    ],
)
def test_the_innermost_module_with_the_operation_is_named(module: nn.Module, place: str) -> None:
    text = sentence(module, RuntimeError(MISSING.format("hardsigmoid_backward")))
    assert "torch has no second derivative of hardsigmoid" in text
    assert place in text
    assert "Write that operation in terms of others" in text


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("the derivative for '_cudnn_rnn_backward' is not implemented.", "of cudnn_rnn."),
        ("derivative for aten::frob is not implemented", "no derivative of frob."),
        ("torch.compile with aot_autograd does not support double backward", "without torch.comp"),
        ("trying to differentiate twice a function marked", "plain implementations"),
        ("When use_reentrant=True, torch.utils.checkpoint is incompatible", "use_reentrant=False"),
        ("one of the variables ... has been modified by an inplace operation", "--hvp"),
        ("element 0 of tensors does not require grad", "detach, no_grad"),
    ],
)
def test_every_refusal_of_torch_has_a_remedy(said: str, remedy: str) -> None:
    text = sentence(nn.Linear(3, 3), RuntimeError(said))
    assert remedy in text
    assert text.endswith(".")


def test_what_is_not_implemented_at_all_is_told_in_torchs_words() -> None:
    text = sentence(nn.Linear(3, 3), NotImplementedError("no kernel for this layout\nsecond line"))
    assert "torch refuses: no kernel for this layout." in text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("derivative for aten::x is not implemented"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        ValueError("does not require grad"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_come_through_as_they_are(error: BaseException) -> None:
    with (
        pytest.raises(type(error)) as caught,
        missing_derivatives_named(nn.Linear(3, 3), lambda: None),
    ):
        raise error
    assert caught.value is error


def test_a_copy_leaves_graphs_behind_and_shares_no_parameter() -> None:
    module = nn.Linear(3, 3)
    kept = module(torch.ones(1, 3))
    module.kept = {"list": [kept], "tuple": (kept, 1)}  # type: ignore[assignment]
    twin = copied(module)
    values = vars(twin)["kept"]["list"]
    assert torch.equal(values[0], kept)
    assert values[0].grad_fn is None
    assert kept.grad_fn is not None
    for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
