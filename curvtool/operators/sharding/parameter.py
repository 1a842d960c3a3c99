"""What stands in a module where a parameter was: its shape and type, and no numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, final

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from curvtool.operators.sharding.store import Place, Store


class Caller(Protocol):
    """Who calls a function with the numbers in the stand-ins' place."""

    def called(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What the function gives."""
        ...


@final
class ShardedParameter(Tensor):
    """A parameter of which every rank holds a piece.

    Shape, type and the like are answered at once. Any other function of torch that is called with
    one goes to its caller, who gathers the numbers for the time of that call.

    Attributes:
        caller: who calls.
        store: that holds this rank's piece.
        place: in the store.
        differentiated: whether the store is that of the vectors.
    """

    _is_param = True  # by which torch knows parameters
    caller: Caller
    store: Store
    place: Place
    differentiated: bool

    @staticmethod
    def __new__(
        cls, caller: Caller, store: Store, place: Place, *, differentiated: bool
    ) -> ShardedParameter:
        """A stand-in for the tensor at a place."""
        made: Any = torch.Tensor._make_wrapper_subclass(
            cls,
            place.shape,
            dtype=store.part_p.dtype,
            device=store.part_p.device,
            requires_grad=differentiated,
        )
        made.caller, made.store, made.place = caller, store, place
        made.differentiated = differentiated
        stand_in: ShardedParameter = made
        return stand_in

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _ANSWERED:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        first = next(a for a in tree_leaves((args, kwargs)) if isinstance(a, ShardedParameter))
        return first.caller.called(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Nothing reaches the numbers from below.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"The model hands a parameter to {func} past torch's functions, where a parameter that "
            "is shared out over ranks cannot be gathered. Run without --shard-params."
        )

    def __repr__(self) -> str:  # type: ignore[override]
        return f"ShardedParameter{tuple(self.place.shape)}"


def _getter(name: str) -> Any:
    return getattr(Tensor, name).__get__


_ANSWERED = {
    *map(
        _getter,
        (
            *("shape", "dtype", "device", "layout", "requires_grad", "ndim", "itemsize", "nbytes"),
            *("is_cuda", "is_cpu", "is_meta", "is_sparse", "is_quantized", "is_leaf", "is_nested"),
            *("grad", "grad_fn"),
        ),
    ),
    *(Tensor.size, Tensor.dim, Tensor.ndimension, Tensor.numel, Tensor.nelement, Tensor.__len__),
    *(Tensor.is_floating_point, Tensor.is_complex, Tensor.element_size, Tensor.__hash__),
    *(torch.numel, torch.is_floating_point, torch.is_complex),
}
