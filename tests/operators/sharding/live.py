"""Bytes of all tensors that are alive, counted operation by operation."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what operations under it make.

    Attributes:
        peak: most bytes alive at once, of storages made meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: dict[int, tuple[Any, int]] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {_key(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        found = func(*args, **(kwargs or {}))
        for t in tree_leaves(found):
            if isinstance(t, Tensor) and _key(t) not in given | self._made.keys():
                storage = t.untyped_storage()
                made: Any = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._made[_key(t)] = (made, storage.nbytes())
        self._made = {k: (ref, n) for k, (ref, n) in self._made.items() if not ref.expired()}
        self.peak = max(self.peak, sum(n for _, n in self._made.values()))
        return found


def _key(t: Tensor) -> int:
    key: int = t.untyped_storage()._cdata
    return key
