"""The kept linearisation under `torch.compile`: fused, and the fastest exact way where it pays.

What is compiled is the backward pass through the kept gradient graph as a program, with the
activations as inputs: one compilation serves every batch of a shape. (Compiled forward-mode
programs take two to five times the memory and were faster by 4 % on one model in three.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, final

import torch
import torch.fx as fx
from torch import Tensor

from curvtool.errors import InputError
from curvtool.operators.ways.base import Keeper, Pieces
from curvtool.operators.ways.traced import run, traced_reverse
from curvtool.problem.objective import Objective
from curvtool.problem.wording import first_line

Program = Callable[..., Any]


@final
class CompiledBatches(Keeper):
    """Constants of every kept batch, and the compiled program of the first one's shape.

    Batches of another shape, a ragged last one, run theirs uncompiled: another compilation would
    cost more than it saves.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self._programs: dict[tuple[object, ...], Program] = {}
        self._kept: dict[int, tuple[Program, tuple[Tensor, ...]]] = {}

    def keep(self, index: int, *, room: float) -> bool:
        """Trace the batch (0.2 to 2.5 s); the first one is compiled (6 to 60 s)."""
        traced = traced_reverse(self.objective, index)
        if traced.bytes > room:
            return False
        signature = traced.signature
        if signature not in self._programs:
            first = not self._programs
            self._programs[signature] = compiled(traced.program) if first else traced.program
        self._kept[index] = (self._programs[signature], traced.constants)
        self.indices.append(index)
        self.bytes += traced.bytes
        return True

    def term(self, index: int, v: Pieces) -> Pieces:
        """One run of the program: 1.2 to 2.1 gradients."""
        program, constants = self._kept[index]
        try:
            return run(program, v, constants)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if _is_of_the_compiler(error):
                raise InputError(
                    "--hvp compiled needs torch.compile to work here: "
                    f"{type(error).__name__}, {first_line(error, most=200)} Use --hvp auto."
                ) from error
            raise


def compiled(program: fx.GraphModule) -> Program:
    """Put a program under `torch.compile`; it is compiled at its first run."""
    # It warns of every CPU machine that it finds no GPU there.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    return torch.compile(program, fullgraph=True, dynamic=False)


def _is_of_the_compiler(error: Exception) -> bool:
    module = type(error).__module__
    return module.startswith(("torch._dynamo", "torch._inductor"))
