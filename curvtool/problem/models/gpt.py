"""A small causal transformer. Letters: N examples, T tokens, D width, H heads, V vocabulary."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvtool.problem.models.parts import Activation, activation_named, flag, positive


def gpt(
    *,
    vocab_size: int,
    context: int,
    width: int,
    layers: int,
    heads: int,
    mlp_ratio: int = 4,
    activation: str = "gelu",
    tied: bool = False,
    bias: bool = True,
) -> nn.Module:
    """Build a causal transformer: LayerNorm before each part, learned positions, no dropout.

    Args:
        vocab_size: V.
        context: the most tokens that an example may have.
        width: D, divisible by `heads`.
        layers: blocks of attention and feed-forward part.
        heads: H, attention heads of each block.
        mlp_ratio: hidden width of the feed-forward part over D.
        activation: one of `parts.ACTIVATIONS`.
        tied: whether the token embedding is the output layer too: then one parameter under two
            names, `token_embedding.weight` and `head.weight`.
        bias: whether linear layers and LayerNorm add a vector; the output layer never does.

    Returns:
        A module from integer tokens (N, T) to logits (N, T, V); parameters
        `token_embedding.weight`, `position_embedding.weight`, `blocks.0.attention.query.weight`,
        ..., `head.weight`.

    Raises:
        ValueError: for a number below 1, a width that the heads do not divide, or an unknown
            activation.
    """
    positive("gpt", "width", width)
    positive("gpt", "heads", heads)
    if width % heads:
        raise ValueError(f"gpt needs width to be a multiple of heads={heads}; got {width}.")
    model = _GPT(
        vocab_size=positive("gpt", "vocab_size", vocab_size),
        context=positive("gpt", "context", context),
        width=width,
        layers=positive("gpt", "layers", layers),
        heads=heads,
        hidden=width * positive("gpt", "mlp_ratio", mlp_ratio),
        activation=activation_named("gpt", activation),
        bias=flag("gpt", "bias", bias),
    )
    if flag("gpt", "tied", tied):
        model.head.weight = model.token_embedding.weight
    return model


@final
class _GPT(nn.Module):
    """Embeddings, pre-norm blocks, a last LayerNorm, a linear head."""

    def __init__(
        self,
        *,
        vocab_size: int,
        context: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        activation: Activation,
        bias: bool,
    ) -> None:
        super().__init__()
        self.context = context
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(
            _Block(width=width, heads=heads, hidden=hidden, activation=activation, bias=bias)
            for _ in range(layers)
        )
        self.final_norm = nn.LayerNorm(width, bias=bias)
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.apply(_initialise)

    def forward(self, tokens_NT: Tensor) -> Tensor:
        """Map tokens (N, T) to logits (N, T, V); logits at t see tokens 0..t alone."""
        if tokens_NT.ndim != 2 or tokens_NT.shape[1] > self.context:
            raise ValueError(
                f"gpt needs tokens of shape (N, T) with T at most {self.context}; "
                f"got {tuple(tokens_NT.shape)}."
            )
        positions_T = torch.arange(tokens_NT.shape[1], device=tokens_NT.device)
        x_NTD = self.token_embedding(tokens_NT) + self.position_embedding(positions_T)
        for block in self.blocks:
            x_NTD = block(x_NTD)
        logits_NTV: Tensor = self.head(self.final_norm(x_NTD))
        return logits_NTV


@final
class _Block(nn.Module):
    """Attention and a feed-forward part, each after its LayerNorm and added to its input."""

    def __init__(
        self, *, width: int, heads: int, hidden: int, activation: Activation, bias: bool
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, bias=bias)
        self.attention = _Attention(width=width, heads=heads, bias=bias)
        self.mlp_norm = nn.LayerNorm(width, bias=bias)
        self.mlp = _FeedForward(width=width, hidden=hidden, activation=activation, bias=bias)

    def forward(self, x_NTD: Tensor) -> Tensor:
        """Map (N, T, D) to (N, T, D)."""
        x_NTD = x_NTD + self.attention(self.attention_norm(x_NTD))
        result_NTD: Tensor = x_NTD + self.mlp(self.mlp_norm(x_NTD))
        return result_NTD


@final
class _Attention(nn.Module):
    """Causal self-attention. Query, key and value are layers of their own, to be readable."""

    def __init__(self, *, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(self, x_NTD: Tensor) -> Tensor:
        """Map (N, T, D) to (N, T, D)."""
        q, k, v = (self._split(part(x_NTD)) for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        result_NTD: Tensor = self.output(mixed.transpose(1, 2).flatten(start_dim=2))
        return result_NTD

    def _split(self, x_NTD: Tensor) -> Tensor:
        """Map (N, T, D) to (N, H, T, D / H)."""
        return x_NTD.view(*x_NTD.shape[:2], self.heads, -1).transpose(1, 2)


@final
class _FeedForward(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, *, width: int, hidden: int, activation: Activation, bias: bool) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden, bias=bias)
        self.activation = activation
        self.contract = nn.Linear(hidden, width, bias=bias)

    def forward(self, x_NTD: Tensor) -> Tensor:
        """Map (N, T, D) to (N, T, D)."""
        result_NTD: Tensor = self.contract(self.activation(self.expand(x_NTD)))
        return result_NTD


def _initialise(module: nn.Module) -> None:
    """GPT-2's start: torch's default embeddings (deviation 1) give tied logits of size sqrt(D)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
