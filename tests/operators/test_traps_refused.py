"""What is refused before or beside a measurement, and with whose name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from curvtool.errors import ExitCode, PreflightError
from curvtool.operators.preflight import preflight
from curvtool.operators.ways.registry import WAYS
from curvtool.problem.objective import Objective
from tests.cli.calls import CHECKPOINTS, environment
from tests.objectives import CPU, batches, normal, seeded
from tests.operators.traps import (
    CROSS_ENTROPY,
    ROWS,
    SEQUENCES,
    TARGETS,
    TOKENS,
    TRAPS,
    Apply,
    Around,
    DualSine,
    GradientInForward,
    Mean,
    N,
    OnceSine,
    Sine,
    Trap,
    loss,
)

Build = Callable[[], nn.Module]


def around(inner: nn.Module) -> nn.Module:
    return Around(inner)


def sentence(
    build: Build, inputs: Tensor = ROWS, *, train_mode: bool = False, way: str = "retained-graph"
) -> str:
    """The refusal."""
    objective = Trap("", build, inputs, train_mode=train_mode).objective(torch.float32)
    with pytest.raises(PreflightError) as caught:
        preflight(objective, way=way, seed=0)
    assert caught.value.exit_code is ExitCode.NOT_A_HESSIAN
    assert str(caught.value).endswith("mean nothing.")
    return str(caught.value)


class StochasticDepth(nn.Module):
    """By the name that torchvision's has."""

    def __init__(self) -> None:
        super().__init__()
        self.p = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1) > self.p) if self.training else x


RANDOM: dict[str, tuple[Build, Tensor, str]] = {
    "dropout": (lambda: around(nn.Dropout(0.3)), ROWS, "operation (Dropout)"),
    "alpha dropout": (lambda: around(nn.AlphaDropout(0.3)), ROWS, "operation (AlphaDropout)"),
    "rrelu": (lambda: around(nn.RReLU()), ROWS, "operation (RReLU)"),
    "stochastic depth": (lambda: around(StochasticDepth()), ROWS, "operation (StochasticDepth)"),
    "attention": (
        lambda: Mean(nn.TransformerEncoderLayer(4, 2, 4, batch_first=True), 4),
        SEQUENCES,
        "inner.self_attn (MultiheadAttention)",
    ),
    "lstm": (
        lambda: Mean(nn.LSTM(4, 2, 2, batch_first=True, dropout=0.5), 2),
        SEQUENCES,
        "inner (LSTM)",
    ),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_layers_are_named(name: str) -> None:
    build, inputs, place = RANDOM[name]
    refused = sentence(build, inputs, train_mode=True)
    assert place in refused
    assert "Leave --train-mode out" in refused


@pytest.mark.parametrize("name", RANDOM)
def test_random_layers_are_of_no_consequence_in_eval_mode(name: str) -> None:
    build, inputs, _ = RANDOM[name]
    objective = Trap("", build, inputs).objective(torch.float32)
    result = preflight(objective, way="retained-graph", seed=0)
    assert all(check.passed for check in result.checks)


@pytest.mark.filterwarnings("ignore:dropout2d")
def test_a_rate_of_zero_is_not_random() -> None:
    objective = Trap("", lambda: around(nn.Dropout(0.0)), train_mode=True).objective(torch.float32)
    preflight(objective, way="retained-graph", seed=0)


def test_layers_that_are_random_in_either_mode_are_named() -> None:
    pool = nn.FractionalMaxPool2d(2, output_size=2)
    refused = sentence(lambda: Around(pool, (1, 4, 4), 4))
    assert "operation (FractionalMaxPool2d)" in refused


class Dropping(nn.Module):
    """Drops without a module that could be named, in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3)


def test_random_functions_are_seen_without_a_name() -> None:
    refused = sentence(lambda: around(Dropping()))
    assert "'repeat'" in refused
    assert "random" in refused


class Stubborn(nn.BatchNorm1d):
    """Stays in train mode whatever it is told."""

    def train(self, mode: bool = True) -> Stubborn:  # noqa: ARG002
        return super().train(True)


@pytest.mark.parametrize("way", ["retained-graph", "forward-over-reverse"])
@pytest.mark.parametrize(
    "build",
    [lambda: Stubborn(6), lambda: nn.BatchNorm1d(6, track_running_stats=False)],
    ids=["stubborn", "without statistics"],
)
def test_batch_statistics_are_used_only_when_asked_for(build: Build, way: str) -> None:
    refused = sentence(lambda: around(build()), way=way)
    assert "operation (" in refused
    assert "--train-mode" in refused
    asked = Trap("", lambda: around(build()), train_mode=True).objective(torch.float32)
    assert all(check.passed for check in preflight(asked, way=way, seed=0).checks)


class Counting(nn.Module):
    """Moves a buffer that its output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        self.mean: Tensor = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return torch.tanh(x - self.mean)


class Caching(nn.Module):
    """Fills a buffer once."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is None:
            self.mask: Tensor | None = torch.ones(6, dtype=x.dtype)
            self.register_buffer("unset", torch.full((3,), torch.nan))
        return torch.tanh(x * self.mask)


class Clamping(nn.Module):
    """Writes to its parameter in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.scale.clamp_(min=0.1)
        return torch.tanh(x * self.scale)


MOVING: dict[str, tuple[Build, bool, str]] = {
    "buffer": (lambda: around(Counting()), False, "'mean' of operation (Counting)"),
    "parameter": (lambda: around(Clamping()), False, "'scale' of operation (Clamping)"),
    "spectral norm": (
        lambda: around(parametrizations.spectral_norm(nn.Linear(6, 6))),
        True,
        "of operation.parametrizations.weight.0 (_SpectralNorm)",
    ),
}


@pytest.mark.parametrize("name", MOVING)
def test_a_model_that_moves_its_own_state_is_named(name: str) -> None:
    build, train_mode, place = MOVING[name]
    assert place in sentence(build, train_mode=train_mode)


def test_a_cache_that_is_filled_once_is_no_movement() -> None:
    objective = Trap("", lambda: around(Caching())).objective(torch.float32)
    preflight(objective, way="retained-graph", seed=0)


def test_statistics_are_as_before_after_a_run_in_train_mode() -> None:
    for name in ("BatchNorm in train mode", "InstanceNorm in train mode"):
        objective = TRAPS[name].objective(torch.float32)
        before = {n: b.clone() for n, b in objective.module.named_buffers()}
        assert before
        preflight(objective, way="retained-graph", seed=0)
        assert all(torch.equal(before[n], b) for n, b in objective.module.named_buffers())


def test_weights_that_rescale_themselves_are_named() -> None:
    refused = sentence(lambda: Mean(nn.Embedding(7, 4, max_norm=0.5), 4), TOKENS)
    assert "inner (Embedding) has max_norm" in refused


def test_a_gradient_that_is_not_the_losss_names_the_embedding() -> None:
    for kwargs in ({"padding_idx": 1}, {"scale_grad_by_freq": True}):
        refused = sentence(lambda k=kwargs: Mean(nn.Embedding(7, 4, **k), 4), TOKENS)  # type: ignore[misc]
        assert "inner (Embedding)" in refused
        assert "build the model without" in refused


class Constant(nn.Module):
    """Its constant is no buffer and stays float32 when the module is cast."""

    def __init__(self, function: type[torch.autograd.Function] | None) -> None:
        super().__init__()
        self.function = function
        self.constant = normal(6, 6, dtype=torch.float32)

    def forward(self, x: Tensor) -> Any:
        mixed = torch.tanh(x @ self.constant)
        return mixed if self.function is None else self.function.apply(mixed)


@pytest.mark.parametrize("way", [name for name in WAYS if WAYS[name].exact and name != "compiled"])
@pytest.mark.parametrize("inner", [Apply, Constant])
def test_a_once_differentiable_function_is_named(inner: type[nn.Module], way: str) -> None:
    # Where nothing casts to float64 as well: the graph says it.
    refused = sentence(lambda: around(inner(OnceSine)), way=way)
    assert "OnceSine of operation (" in refused
    assert "once_differentiable" in refused


def test_custom_functions_are_named_where_differences_judge_them() -> None:
    objective = Trap("", lambda: around(Apply(Sine))).objective(torch.float32)
    result = preflight(objective, way="retained-graph", seed=0)
    judged = next(check for check in result.checks if check.name == "differences")
    assert judged.passed
    assert "Sine of operation (Apply)" in judged.detail


def test_a_fused_loss_that_drops_a_term_is_named() -> None:
    trap = loss("---", lambda o, y: GradientInForward.apply(o, y))
    with pytest.raises(PreflightError, match="judge GradientInForward of the loss"):
        preflight(trap.objective(torch.float32), way="retained-graph", seed=0)


def test_a_custom_function_that_nothing_can_judge_is_refused() -> None:
    assert "nothing can judge it" in sentence(lambda: around(Constant(Sine)))


def test_a_custom_function_that_a_second_way_can_judge_passes() -> None:
    for function in (None, DualSine):
        trap = Trap("", lambda f=function: around(Constant(f)))  # type: ignore[misc]
        for way in ("retained-graph", "forward-over-reverse"):
            result = preflight(trap.objective(torch.float32), way=way, seed=0)
            assert {c.name: c.passed for c in result.checks}["second way"]
            other = "forward" if way == "retained-graph" else "reverse"
            assert f"against {other}-over-reverse" in result.noise_source


def test_where_no_other_judge_is_left_coarse_differences_are() -> None:
    trap = Trap(
        "",
        lambda: around(Constant(None)),
        loss=loss("", lambda o, y: F.huber_loss(o, F.one_hot(y, 3).to(o.dtype))).loss,
    )
    result = preflight(trap.objective(torch.float32), way="retained-graph", seed=0)
    checks = {c.name: c for c in result.checks}
    assert checks["second way"].passed is None
    assert checks["differences"].passed
    assert "the model's dtype" in checks["differences"].detail


def _fused_in_float32(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.dtype == torch.float64:
        return F.cross_entropy(outputs, targets)
    fused: Tensor = GradientInForward.apply(outputs, targets)
    return fused


def test_a_kernel_of_float32_is_not_cleared_by_one_of_float64() -> None:
    objective = loss("", _fused_in_float32).objective(torch.float32)
    with pytest.raises(PreflightError, match="'precision'"):
        preflight(objective, way="retained-graph", seed=0)


@pytest.mark.parametrize("examples", [1, 4, 32])
def test_as_many_examples_are_used_as_asked(examples: int) -> None:
    seen = []

    def watched(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(len(outputs))
        return F.cross_entropy(outputs, targets)

    objective = loss("", watched).objective(torch.float32)
    objective.evaluate()
    seen.clear()
    preflight(objective, way="retained-graph", seed=0, examples=examples)
    assert max(seen) == min(examples, N)


def wrapped_in_parallel() -> nn.Module:
    return nn.DataParallel(around(nn.Tanh()))


def compiled_within() -> nn.Module:
    inner: Any = torch.compile(nn.Tanh(), backend="aot_eager")
    return around(inner)


def compiled_function() -> nn.Module:
    def function(x: Tensor) -> Tensor:
        return torch.tanh(x) * x

    return Around(torch.compile(function, backend="aot_eager"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # dynamo looks at .grad, where torch warns
@pytest.mark.parametrize("build", [wrapped_in_parallel, compiled_within])
def test_wrappers_are_taken_off(build: Build) -> None:
    objective = Trap("", build).objective(torch.float32)
    assert " ".join(objective.layout.names) == "first.weight first.bias last.weight last.bias"
    result = preflight(objective, way="forward-over-reverse", seed=0)
    assert all(check.passed for check in result.checks)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_function_compiled_within_is_told_to_load_without() -> None:
    objective = Trap("", compiled_function).objective(torch.float32)
    with pytest.raises(PreflightError, match=r"without torch\.compile"):
        preflight(objective, way="retained-graph", seed=0)


@pytest.mark.parametrize("value", ["0", "1"])
def test_forward_mode_without_its_derivatives_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_JIT", value)
    objective = Objective(
        seeded(lambda: around(nn.Tanh())),
        CROSS_ENTROPY,
        batches((ROWS, TARGETS), N),
        device=CPU,
        dtype=torch.float32,
    )
    if value == "0":
        with pytest.raises(PreflightError, match="PYTORCH_JIT=0"):
            preflight(objective, way="retained-graph", seed=0)
    else:
        preflight(objective, way="retained-graph", seed=0)


def test_python_without_assertions_is_refused(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-O", "-m", "curvtool", "spectrum", str(CHECKPOINTS / "digits_mlp.pt")],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
        text=True,
    )
    assert ended.returncode == ExitCode.NOT_A_HESSIAN
    assert "python -O" in ended.stderr
    assert "Traceback" not in ended.stderr
