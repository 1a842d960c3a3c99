"""Is a program faster compiled? Asked in a process of its own.

A compilation that fails may leave torch in a state in which later derivatives fail too, and one
that hangs can be ended only from outside. What the child has compiled is in the compiler's cache on
disk, so that compiling it again takes a fifth of the time.
"""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from curvtool.operators.measure import interleaved, median
from curvtool.operators.ways.base import Pieces
from curvtool.operators.ways.traced import Traced, run
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose

_ROUNDS = 5


@final
@dataclass(frozen=True)
class CompileReport:
    """What compiling gained.

    Attributes:
        compile_seconds: of the first run.
        gain: seconds of a run as it is over those of a compiled one.
    """

    compile_seconds: float
    gain: float


@final
class CompileFailure(Exception):
    """The child did not come back with figures; the message says why."""


def probe_compilation(
    traced: Traced, v: Pieces, *, device: torch.device, most_seconds: float
) -> CompileReport:
    """Compile a program in a child process and time it against itself uncompiled.

    Args:
        traced: the program; its constants' values do not matter and are not handed over.
        v: pieces of a vector, for their shapes.
        device: to compute on.
        most_seconds: after which the child is ended.

    Returns:
        The figures. Costs 3 s for the child's start, the compilation, and eleven products.

    Raises:
        CompileFailure: where it failed or took too long.
    """
    inputs = [(tuple(t.shape), tuple(t.stride()), t.dtype) for t in (*v, *traced.constants)]
    task = (traced.program, inputs, str(device), torch.get_num_threads())
    try:
        done = subprocess.run(
            [sys.executable, "-m", "curvtool.operators.ways.compile_probe"],
            input=pickle.dumps(task),
            capture_output=True,
            timeout=most_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CompileFailure(f"not compiled within {most_seconds:.0f} s") from error
    except (OSError, pickle.PicklingError, TypeError, AttributeError) as error:
        raise CompileFailure(f"could not be handed to a process of its own: {error}") from error
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode or not lines:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise CompileFailure(f"the compiler ended with code {done.returncode}: {said[-1][:200]}")
    figures = json.loads(lines[-1])
    return CompileReport(figures["compile_seconds"], figures["gain"])


def _child() -> None:
    program, inputs, device, threads = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(threads)
    tensors = [_drawn(*kind, device=torch.device(device)) for kind in inputs]
    began = time.perf_counter()
    compiled = torch.compile(program, fullgraph=True, dynamic=False)
    run(compiled, tensors, ())
    compile_seconds = time.perf_counter() - began
    run(program, tensors, ())
    times = interleaved(
        {
            "plain": lambda: run(program, tensors, ()),
            "compiled": lambda: run(compiled, tensors, ()),
        },
        rounds=_ROUNDS,
        device=torch.device(device),
    )
    gain = median(times["plain"]) / median(times["compiled"])
    sys.stdout.write(json.dumps({"compile_seconds": compile_seconds, "gain": gain}) + "\n")


def _drawn(
    shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, *, device: torch.device
) -> Tensor:
    tensor = torch.empty_strided(shape, stride, dtype=dtype, device=device)
    # Random floats, so that no time is lost or won on denormals; indices that fit everywhere.
    if dtype.is_floating_point and 0 not in stride:
        drawn = streams.normal(Purpose.TIMING, seed=0, size=math.prod(shape), dtype=dtype)
        return tensor.copy_(drawn.view(shape))
    return tensor.zero_()


if __name__ == "__main__":
    _child()
