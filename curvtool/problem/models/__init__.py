"""Built-in architectures: small, general, described by plain keyword arguments alone."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from curvtool.problem.models.cnn import cnn as cnn
from curvtool.problem.models.gpt import gpt as gpt
from curvtool.problem.models.mlp import mlp as mlp

BUILTIN_MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn, "gpt": gpt}
