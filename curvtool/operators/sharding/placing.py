"""Taking a module's parameters out of it, and putting stand-ins there.

Letters: W ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from curvtool.distributed.group import Group
from curvtool.errors import InputError
from curvtool.operators.sharding.calls import Calls
from curvtool.operators.sharding.parameter import ShardedParameter
from curvtool.operators.sharding.store import Store
from curvtool.problem.parameters import ParameterLayout, lay_out
from curvtool.problem.twice import prepare_modules

# Name and parameter of the module -> its numbers, asked for one after another, in no fixed order.
Source = Callable[[str, nn.Parameter], Tensor]


@final
@dataclass(frozen=True, eq=False)
class ShardedModule:
    """A module whose parameters are stand-ins.

    Attributes:
        module: with buffers on the device; called by all ranks at once.
        calls: that compute with it.
        layout: of the differentiated parameters, as that of the whole module.
        store: their numbers; its parts are those of the flat vector.
        constants: the numbers of the others.
        notes: sentences on what is not differentiated, or tied.
    """

    module: nn.Module
    calls: Calls
    layout: ParameterLayout
    store: Store
    constants: Store
    notes: tuple[str, ...]


def shard(
    module: nn.Module,
    group: Group,
    *,
    device: torch.device,
    dtype: torch.dtype,
    patterns: Sequence[str] = (),
    source: Source | None = None,
) -> ShardedModule:
    """Share the parameters of a module out over ranks.

    Args:
        module: changed in place, and cured before (`problem.cures`); in the mode that it is to
            run in. Its parameters may be on the meta device where a source is given.
        group: the ranks, all of which call this.
        device: of the pieces and the computing.
        dtype: likewise.
        patterns: of the names of parameters to differentiate; empty takes all.
        source: of the parameters' numbers; the module's own by default.

    Returns:
        The module. Memory is this rank's piece of everything, and one tensor on the way.

    Raises:
        InputError: for parameters that have not one floating-point type, or that are lazy.
    """
    layout, chosen, notes = lay_out(module, patterns)
    names = {id(p): name for name, p in reversed(list(module.named_parameters()))}
    differentiated = {id(p) for p in chosen}
    others = [p for p in module.parameters() if id(p) not in differentiated]
    _require_plain([(names[id(p)], p) for p in (*chosen, *others)])
    store = Store(group, layout.shapes, dtype=dtype, device=device)
    constants = Store(group, [p.shape for p in others], dtype=dtype, device=device)
    calls = Calls()
    stand_ins: dict[int, ShardedParameter] = {}
    for kept, parameters in ((store, chosen), (constants, others)):
        for place, p in zip(kept.places, parameters, strict=True):
            stand_ins[id(p)] = ShardedParameter(calls, kept, place, differentiated=kept is store)
            kept.put(place, p if source is None else source(names[id(p)], p))
    for child in module.modules():
        for name, own in child._parameters.items():
            if own is not None:
                child._parameters[name] = stand_ins[id(own)]  # type: ignore[assignment]
        if isinstance(child, nn.RNNBase):
            child._flat_weights = [getattr(child, name) for name in child._flat_weights_names]
        for name, buffer in child._buffers.items():
            if buffer is not None:
                to = dtype if buffer.is_floating_point() else buffer.dtype
                child._buffers[name] = buffer.to(device=device, dtype=to)
    prepare_modules(module)
    return ShardedModule(module, calls, layout, store, constants, tuple(notes))


def _require_plain(named: Sequence[tuple[str, nn.Parameter]]) -> None:
    for name, p in named:
        if nn.parameter.is_lazy(p) or not p.is_floating_point() or p.layout is not torch.strided:
            raise InputError(
                f"--shard-params: expected parameters that are tensors of floating-point numbers; "
                f"{name} is {p.dtype}, {p.layout}. Run without --shard-params."
            )
