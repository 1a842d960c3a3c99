"""A model and its checkpoint, shared out over ranks while they are read.

Letters: W ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from curvtool.distributed.group import Group
from curvtool.errors import InputError
from curvtool.operators.sharding.placing import ShardedModule, shard
from curvtool.problem.checkpoint import Checkpoint
from curvtool.problem.checkpoint.weights import Loaded, fitting_weights
from curvtool.problem.cures import cured
from curvtool.problem.emptying import parameters_without_numbers
from curvtool.problem.wording import listed


def load_sharded(
    build: Callable[[], nn.Module],
    checkpoint: Checkpoint,
    group: Group,
    *,
    model: str,
    device: torch.device,
    dtype: torch.dtype,
    patterns: Sequence[str] = (),
    train_mode: bool = False,
) -> tuple[ShardedModule, Loaded]:
    """Build a model without numbers, and read this rank's pieces of them.

    Files of safetensors and of torch.save (zip) are mapped, so that of what other ranks hold
    nothing is read; others are read by every rank as a whole before.

    Args:
        build: makes the module.
        checkpoint: what was read, narrowed to the weights that are meant.
        group: the ranks, all of which call this.
        model: how the spec names the model, for messages.
        device: of the pieces.
        dtype: of the pieces.
        patterns: of the names of parameters to differentiate; empty takes all.
        train_mode: whether the model runs in train mode.

    Returns:
        The module, and what was read: tensors that are mapped, and notes. Memory is this rank's
        pieces, and while the model is built its largest parameter.

    Raises:
        InputError: for weights that do not fit or are not finite, or where the model makes a
            buffer of parameters.
    """
    with parameters_without_numbers():
        module = build()
    for name, buffer in module.named_buffers():
        if buffer.is_meta:
            raise InputError(
                f"--shard-params: expected {model} to make its buffers of numbers that it has when "
                f"it is built; {name} is made of parameters, which are read later. Make it in the "
                "forward pass, or run without --shard-params."
            )
    loaded = fitting_weights(module, checkpoint, model)

    def numbers(name: str, _: nn.Parameter) -> Tensor:
        return loaded.tensors[name]

    sharded = shard(
        cured(module).train(train_mode),
        group,
        device=device,
        dtype=dtype,
        patterns=patterns,
        source=numbers,
    )
    _require_finite(sharded, checkpoint)
    return sharded, loaded


def _require_finite(sharded: ShardedModule, checkpoint: Checkpoint) -> None:
    """Every rank looks at its pieces, and all say the same."""
    for store, names in (
        (sharded.store, sharded.layout.names),
        (sharded.constants, ("a frozen parameter",) * len(sharded.constants.places)),
    ):
        pieces = [store.own(place, store.part_p) for place in store.places]
        bad = torch.tensor([int((~piece.isfinite()).sum()) for piece in pieces])
        counts = store.group.sum_(bad).tolist() if len(pieces) else []
        found = [f"{n} ({count:,})" for n, count in zip(names, counts, strict=True) if count]
        if found:
            raise InputError(
                f"{checkpoint.path}: expected finite weights; got NaN or infinity in "
                f"{listed(found, most=8)}. The training diverged; take an earlier checkpoint."
            )
