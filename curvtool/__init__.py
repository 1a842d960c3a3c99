"""How curved is the loss where training ended?

Importing the package loads neither torch nor anything heavy; the public names below are loaded
when they are first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curvtool.operators.adapters import as_linear_operator as as_linear_operator
    from curvtool.problem.save import save_checkpoint as save_checkpoint

# Read when numpy is imported, and of consequence only where that comes after. OpenBLAS's threads
# wait for more work by spinning, 20 ms by default, on the cores that torch's threads need then: a
# solve of a small convolutional net took 2.5 s, and 1.3 s without.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

__version__ = version("curvtool")

_HOMES = {
    "as_linear_operator": "curvtool.operators.adapters",
    "save_checkpoint": "curvtool.problem.save",
}

__all__ = ["__version__", "as_linear_operator", "save_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'curvtool' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
