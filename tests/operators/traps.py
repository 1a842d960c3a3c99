"""The operations whose derivatives PyTorch has wrong, or not at all, each in a tiny network.

One letter for each of three nestings says what the tool has to do: "+" to give the right product,
"-" to refuse. They are reverse over reverse, forward over reverse and reverse over forward. (The
third was held for all traps once, with torch 2.14; `test_traps.py` holds it for a few.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from curvtool.problem.batch import Loss
from curvtool.problem.objective import Objective
from tests.objectives import CPU, batches, builtin, hook, labels, normal, seeded

N = 9
ROWS = normal(N, 5)
SEQUENCES = normal(N, 3, 4, seed=1)
TOKENS = labels(7, N, 4, seed=2)
TARGETS = labels(3, N, seed=4)
CROSS_ENTROPY = builtin("cross_entropy")


class Around(nn.Module):
    """A linear layer, the operation on a shape, and another linear layer."""

    def __init__(
        self, operation: Callable[[Tensor], Tensor], shape: tuple[int, ...] = (6,), out: int = 6
    ) -> None:
        super().__init__()
        self.first = nn.Linear(5, prod(shape))
        self.operation = operation
        self.shape = shape
        self.last = nn.Linear(out, 3)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.operation(self.first(x).reshape(-1, *self.shape))
        output: Tensor = self.last(inside.flatten(1))
        return output


class Mean(nn.Module):
    """A module over sequences, a mean over positions and a linear layer."""

    def __init__(self, inner: Callable[[Tensor], Any], width: int) -> None:
        super().__init__()
        self.inner = inner
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        result = self.inner(x)
        sequence: Tensor = result[0] if isinstance(result, tuple) else result
        return torch.tanh(self.head(sequence.mean(1)))


class Attention(nn.Module):
    """Multi-head attention of a sequence with itself."""

    def __init__(self, *, need_weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Any:
        return self.attention(x, x, x, need_weights=self.need_weights)


class Eager(nn.Module):
    """Attention as transformers write it by default for second derivatives."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.all(x).chunk(3, dim=-1)
        scores = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        mixed: Tensor = scores @ v
        return mixed


class Padded(nn.Module):
    """An encoder whose last tokens are padding: in eval mode torch would take its fast path."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 4, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        padding[::2, -1] = True
        encoded: Tensor = self.encoder(x, src_key_padding_mask=padding)
        return encoded


class Decoder(nn.Module):
    """A decoder layer that attends to its own input, reversed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(4, 2, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        decoded: Tensor = self.layer(x, x.flip(1))
        return decoded


class Packed(nn.Module):
    """A recurrent layer over sequences of unequal length."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((len(x),), 3)
        lengths[1::2] = 2
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        padded: Tensor = nn.utils.rnn.pad_packed_sequence(self.inner(packed)[0], batch_first=True)[
            0
        ]
        return padded


@dataclass(frozen=True)
class Trap:
    """A small problem and what the tool has to do about it in the three nestings."""

    expected: str
    build: Callable[[], nn.Module]
    inputs: Tensor = ROWS
    loss: Loss = CROSS_ENTROPY
    train_mode: bool = False

    def objective(self, dtype: torch.dtype) -> Objective:
        return Objective(
            seeded(self.build),
            self.loss,
            batches((self.inputs, TARGETS), N),
            device=CPU,
            dtype=dtype,
            train_mode=self.train_mode,
        )


def around(
    expected: str,
    operation: Callable[[Tensor], Any],
    shape: tuple[int, ...] = (6,),
    out: int = 6,
    *,
    train_mode: bool = False,
) -> Trap:
    """A trap of a function."""
    return Trap(expected, lambda: Around(operation, shape, out), train_mode=train_mode)


def module(
    expected: str,
    build: Callable[[], nn.Module],
    shape: tuple[int, ...] = (6,),
    out: int = 6,
    *,
    train_mode: bool = False,
) -> Trap:
    """A trap of a layer."""
    return Trap(expected, lambda: Around(build(), shape, out), train_mode=train_mode)


def loss(expected: str, function: Callable[[Tensor, Any], Tensor]) -> Trap:
    """A trap of a loss: of the model's three outputs and the targets."""
    return Trap(
        expected,
        lambda: Around(torch.tanh),
        loss=hook(lambda model, values: function(model(values[0]), values[1])),
    )


GOAL = normal(N, 3, seed=5)


def _goal(outputs: Tensor) -> Tensor:
    return GOAL.to(outputs.dtype)


def _signs(outputs: Tensor) -> Tensor:
    return GOAL.sign().to(outputs.dtype)


def _share(outputs: Tensor) -> Tensor:
    return GOAL.softmax(1).to(outputs.dtype)


def _sdpa(x: Tensor, **kwargs: Any) -> Tensor:
    return F.scaled_dot_product_attention(x, x.roll(1, -1), x.tanh(), **kwargs)


def _flash(x: Tensor) -> Tensor:
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        return _sdpa(x.unsqueeze(1))


def _ctc(outputs: Tensor, _: Tensor) -> Tensor:
    steps = outputs.log_softmax(1).unsqueeze(1).expand(N, 2, 3)
    return F.ctc_loss(
        steps, torch.tensor([[1, 2], [2, 1]]), torch.tensor([N, N]), torch.tensor([2, 2])
    )


def _scattered(x: Tensor) -> Tensor:
    places = torch.tensor([0, 2, 2, 1, 0, 5]).expand_as(x)
    return torch.zeros_like(x).scatter_add(1, places, x.tanh())


def _multiplied(x: Tensor) -> Tensor:
    places = torch.tensor([0, 2, 2, 1, 0, 5]).expand_as(x)
    return torch.ones_like(x).scatter_reduce(1, places, x.tanh(), "prod")


def _index_added(x: Tensor) -> Tensor:
    return torch.zeros_like(x).index_add(1, torch.tensor([0, 2, 2, 1, 0, 5]), x.tanh())


def _overwriting(x: Tensor) -> Tensor:
    fresh = x * 2
    fresh.mul_(fresh.detach() * 0 + 1.5)
    return fresh.tanh_()


def _sampled(x: Tensor) -> Tensor:
    image, grid = x[:, :9].reshape(-1, 1, 3, 3), x[:, 9:].reshape(-1, 2, 2, 2).tanh()
    return F.grid_sample(image, grid, align_corners=False)


def _weight_norm(dim: int | None = 0) -> nn.Module:
    normed: nn.Module = parametrizations.weight_norm(nn.Linear(6, 6), dim=dim)  # type: ignore[arg-type]
    return normed


def _old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed: nn.Module = torch.nn.utils.weight_norm(nn.Linear(6, 6))
    return normed


class RawWeightNorm(nn.Module):
    """`torch._weight_norm` in code that is not torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(6, 1))
        self.v = nn.Parameter(torch.ones(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, torch._weight_norm(self.v, self.g, 0)).tanh()


class Checkpointed(nn.Module):
    """Activation checkpointing of a layer with parameters."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


class Sine(torch.autograd.Function):
    """Old style, with a backward that can be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = gradient * x.cos()
        return result


class OnceSine(Sine):
    """The same, and not to be differentiated; torch does not stop who does."""

    backward = staticmethod(torch.autograd.function.once_differentiable(Sine.backward))  # type: ignore[assignment]


class DualSine(torch.autograd.Function):
    """New style, for every nesting."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sin()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], _: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    backward = Sine.backward

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = tangent * x.cos()
        return result


class GradientInForward(torch.autograd.Function):
    """A fused cross-entropy: its gradient is a constant to the second derivative."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            value = F.cross_entropy(leaf, targets)
            ctx.save_for_backward(*torch.autograd.grad(value, leaf))
        return value.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradient * kept, None


class Apply(nn.Module):
    """An autograd function as a layer."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function.apply(x)


def _embedding(expected: str, **kwargs: Any) -> Trap:
    return Trap(expected, lambda: Mean(nn.Embedding(7, 4, **kwargs), 4), TOKENS)


def _bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(7, 4), nn.Tanh(), nn.Linear(4, 3))


def _linear_cross_entropy(model: nn.Module, values: Any) -> Tensor:
    fused: Callable[..., Tensor] = F.linear_cross_entropy
    hidden = torch.tanh(model.first(values[0]))  # type: ignore[operator]
    return fused(hidden, model.last.weight, values[1])  # type: ignore[union-attr]


ATTENTION = {
    "sdpa": around("+++", lambda x: _sdpa(x), (1, 3, 4), 12),
    "sdpa causal": around("+++", lambda x: _sdpa(x, is_causal=True), (1, 3, 4), 12),
    "sdpa masked": around(
        "+++", lambda x: _sdpa(x, attn_mask=torch.ones(3, 3).tril().bool()), (1, 3, 4), 12
    ),
    "sdpa on a fused kernel": around("---", _flash, (3, 4), 12),
    "attention with weights": Trap("+++", lambda: Mean(Attention(need_weights=True), 4), SEQUENCES),
    "attention without": Trap("+++", lambda: Mean(Attention(need_weights=False), 4), SEQUENCES),
    "attention by hand": Trap("+++", lambda: Mean(Eager(), 4), SEQUENCES),
    "encoder with padding": Trap("++-", lambda: Mean(Padded(), 4), SEQUENCES),
    "decoder layer": Trap("++-", lambda: Mean(Decoder(), 4), SEQUENCES),
    "encoder layer": Trap(
        "++-", lambda: Mean(nn.TransformerEncoderLayer(4, 2, 4, batch_first=True), 4), SEQUENCES
    ),
}
RECURRENT = {
    "lstm of two layers, both ways": Trap(
        "+++", lambda: Mean(nn.LSTM(4, 2, 2, batch_first=True, bidirectional=True), 4), SEQUENCES
    ),
    "lstm with projection": Trap(
        "+++", lambda: Mean(nn.LSTM(4, 3, batch_first=True, proj_size=2), 2), SEQUENCES
    ),
    "gru of packed sequences": Trap("++-", lambda: Mean(Packed(), 2), SEQUENCES),
    "lstm": Trap("+++", lambda: Mean(nn.LSTM(4, 2, batch_first=True), 2), SEQUENCES),
    "gru": Trap("+++", lambda: Mean(nn.GRU(4, 2, batch_first=True), 2), SEQUENCES),
    "rnn": Trap("+++", lambda: Mean(nn.RNN(4, 2, batch_first=True), 2), SEQUENCES),
}
NORMS = {
    "layer_norm": around("++-", lambda x: F.layer_norm(x, (6,)).tanh()),
    "LayerNorm": module("++-", lambda: nn.Sequential(nn.LayerNorm(6), nn.GELU())),
    "batch_norm": around("++-", lambda x: F.batch_norm(x, None, None, training=True).tanh()),
    "BatchNorm in train mode": module(
        "++-", lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Tanh()), train_mode=True
    ),
    "BatchNorm": module("+++", lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Tanh())),
    "instance_norm": around("++-", lambda x: F.instance_norm(x).tanh(), (2, 4), 8),
    "InstanceNorm in train mode": module(
        "++-",
        lambda: nn.Sequential(nn.InstanceNorm1d(2, track_running_stats=True), nn.Tanh()),
        (2, 4),
        8,
        train_mode=True,
    ),
    "rms_norm": around("+++", lambda x: F.rms_norm(x, (6,)).tanh()),
    "group_norm": around("+++", lambda x: F.group_norm(x, 2).tanh()),
    "weight norm": module("+++", _weight_norm),
    "weight norm of columns": module("+++", lambda: _weight_norm(1)),
    "weight norm of all": module("+++", lambda: _weight_norm(None)),
    "weight norm as a hook": module("+++", _old_weight_norm),
    "torch._weight_norm": module("---", RawWeightNorm),
    "spectral norm": module("+++", lambda: parametrizations.spectral_norm(nn.Linear(6, 6))),
}
LOSSES = {
    "cross_entropy": loss("+++", F.cross_entropy),
    "cross_entropy of shares": loss("+++", lambda o, _: F.cross_entropy(o, _share(o))),
    "cross_entropy smoothed": loss("+++", lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1)),
    "cross_entropy of images": loss(
        "+++", lambda o, y: F.cross_entropy(o.view(N, 3, 1, 1), y.view(N, 1, 1))
    ),
    "bce": loss("+++", lambda o, _: F.binary_cross_entropy(o.sigmoid(), _share(o))),
    "bce with logits": loss("+++", lambda o, _: F.binary_cross_entropy_with_logits(o, _share(o))),
    "kl_div": loss(
        "+++", lambda o, _: F.kl_div(o.log_softmax(1), _share(o), reduction="batchmean")
    ),
    "smooth_l1": loss("+++", lambda o, _: F.smooth_l1_loss(o, _goal(o))),
    "l1": loss("+++", lambda o, _: F.l1_loss(o, _goal(o))),
    "gaussian_nll": loss("+++", lambda o, _: F.gaussian_nll_loss(o, _goal(o), o.exp())),
    "mse": loss("+++", lambda o, _: F.mse_loss(o, _goal(o))),
    "mse sum": loss("+++", lambda o, _: F.mse_loss(o, _goal(o), reduction="sum")),
    "huber": loss("+-+", lambda o, _: F.huber_loss(o, _goal(o))),
    "soft_margin": loss("+-+", lambda o, _: F.soft_margin_loss(o, _signs(o))),
    "multi_margin": loss("---", F.multi_margin_loss),
    "ctc": loss("---", _ctc),
    "gradient in forward": loss("---", lambda o, y: GradientInForward.apply(o, y)),
}
if hasattr(F, "linear_cross_entropy"):
    LOSSES["linear_cross_entropy"] = Trap(
        "+++", lambda: Around(torch.tanh), loss=hook(_linear_cross_entropy)
    )
LAYERS = {
    "embedding": _embedding("+++"),
    "embedding with padding": _embedding("---", padding_idx=1),
    "embedding with scaled gradients": _embedding("---", scale_grad_by_freq=True),
    "embedding, sparse": _embedding("+++", sparse=True),
    "embedding with max_norm": _embedding("---", max_norm=0.5),
    "embedding bag": Trap("---", _bag, TOKENS),
    "conv1d": module("+++", lambda: nn.Sequential(nn.Conv1d(2, 2, 2), nn.Tanh()), (2, 4), 6),
    "conv2d": module("+++", lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh()), (1, 3, 3), 8),
    "conv_transpose": module(
        "+++", lambda: nn.Sequential(nn.ConvTranspose1d(2, 2, 2), nn.Tanh()), (2, 3), 8
    ),
    "max_pool": around("+++", lambda x: F.max_pool2d(x.tanh(), 2, 1), (1, 3, 3), 4),
    "avg_pool": around("+++", lambda x: F.avg_pool2d(x.tanh(), 2, 1), (1, 3, 3), 4),
    "adaptive_avg_pool": around("+++", lambda x: F.adaptive_avg_pool1d(x.tanh(), 2), (2, 3), 4),
    "interpolate": around(
        "+++", lambda x: F.interpolate(x.tanh(), 4, mode="linear", align_corners=False), (2, 3), 8
    ),
    "grid_sample": around("+--", _sampled, (17,), 4),
    "cdist": around("+--", lambda x: torch.cdist(x, x.roll(1, 1).tanh()), (3, 2), 9),
    "scatter_add": around("+++", _scattered),
    "scatter_reduce prod": around("+--", _multiplied),
    "index_add": around("+++", _index_added),
    "fft": around("+++", lambda x: torch.fft.rfft(x).abs(), out=4),
    "softmax": around("+++", lambda x: x.softmax(1)),
    "logcumsumexp": around("+++", lambda x: x.logcumsumexp(1)),
    "in-place relu": module("+++", lambda: nn.ReLU(inplace=True)),
    "in-place on the fresh": around("+++", _overwriting),
    "glu": around("++-", F.glu, out=3),
    "hardsigmoid": around("---", lambda x: F.hardsigmoid(x)),
    "prelu": module("+++", nn.PReLU),
    "rrelu": module("+++", nn.RReLU),
    "checkpoint": module("++-", lambda: Checkpointed(reentrant=False)),
    "reentrant checkpoint": module("---", lambda: Checkpointed(reentrant=True)),
    "old function": module("+--", lambda: Apply(Sine)),
    "function with jvp": module("+++", lambda: Apply(DualSine)),
    "once_differentiable": module("---", lambda: Apply(OnceSine)),
}
ACTIVATIONS = {
    name: around("+++", getattr(F, name))
    for name in (
        *("gelu", "silu", "mish", "relu", "relu6", "leaky_relu", "elu", "selu", "hardswish"),
        "softplus",
    )
}
TRAPS = {**ATTENTION, **RECURRENT, **NORMS, **LOSSES, **LAYERS, **ACTIVATIONS}


@lru_cache
def differences(name: str) -> tuple[Tensor, Tensor]:
    """Two vectors and the differences of the gradient along them, float64, by autograd alone."""
    trap = TRAPS[name]
    model = seeded(trap.build).double().train(trap.train_mode)
    for child in model.modules():
        if isinstance(child, nn.modules.batchnorm._NormBase):
            child.momentum = 0.0  # statistics stay where they are
    parameters = list(model.parameters())
    theta_P = torch.cat([p.detach().reshape(-1) for p in parameters])
    batch = batches((trap.inputs, TARGETS), N)[0].moved(CPU, torch.float64)

    def gradient(at_P: Tensor) -> Tensor:
        for p, piece in zip(
            parameters, torch.split(at_P, [p.numel() for p in parameters]), strict=True
        ):
            p.data = piece.view_as(p).clone()
        mean = trap.loss(model, batch).mean
        pieces = torch.autograd.grad(mean, parameters, materialize_grads=True)
        return torch.cat([g.to_dense().reshape(-1) for g in pieces])

    V_2P = normal(2, len(theta_P), seed=6)
    h = 1e-5
    HV_2P = torch.stack([
        (gradient(theta_P + h * v_P) - gradient(theta_P - h * v_P)) / (2 * h) for v_P in V_2P
    ])
    return V_2P, HV_2P
