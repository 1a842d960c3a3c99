"""Building a model whose parameters have shapes and no numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary


@contextlib.contextmanager
def parameters_without_numbers() -> Iterator[None]:
    """Put parameters on the meta device as soon as a module takes them.

    Buffers keep their values, since a model makes those itself; `torch.device("meta")` would take
    them away. Parameters that are tied stay tied.
    """
    # Original -> what stands for it; forgotten with the original.
    emptied: Any = WeakIdKeyDictionary()

    def emptied_of(_module: nn.Module, _name: str, p: nn.Parameter) -> nn.Parameter | None:
        if p.is_meta or is_lazy(p):
            return None
        if p not in emptied:
            emptied[p] = nn.Parameter(p.detach().to("meta"), requires_grad=p.requires_grad)
        made: nn.Parameter = emptied[p]
        return made

    # Torch takes what a hook returns in the parameter's place, and declares that it returns none.
    hook: Any = emptied_of
    handle = register_module_parameter_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()
