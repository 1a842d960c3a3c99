"""Cases that do what no file may bring about, by a hook that is named: what sees harm, works."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.cases import Format, Tree
from tests.fuzz.checkpoints import data, saved, weights

_HOOKS = """
from curvtool.problem.models import mlp


def build():
    return mlp(sizes=[3, 4, 2])
"""

# What each does, and what is said of it.
HARM = {
    "process": ('import os; os.system("true")', "did os.system"),
    "file": ('open("/dev/full", "w").close()', "did open"),
    "native file": ('import h5py; h5py.File("written.h5", "w").close()', "wrote "),
    "module": ("import fuzz_canary", "the canary is there"),
    "code": ("", "did exec"),  # the hook itself is code of the folder
    "pickle": ('import pickle; pickle.loads(b"cbuiltins\\nlen\\n.")', "did pickle.find_class"),
    "crash": ("import os; os.kill(os.getpid(), 11)", "ended the process by SIGSEGV"),
    "memory": ("import torch; torch.empty(2**33)", "ran out of memory"),
    "bug": ("import curvtool.problem.loading as l; l.make_batches = None", "ended with 1"),
    "terminal": ('import sys; sys.stderr.write("\\x1b[2J")', "to the terminal"),
}


def formats() -> list[Format]:
    """One format for each kind of harm, whose cases are all that one."""
    return [_format(name, line) for name, (line, _) in HARM.items()]


def _format(name: str, line: str) -> Format:
    def spoil(tree: Tree, _: random.Random, __: Path) -> str:
        tree["net.py"] = (line + _HOOKS).encode()
        return name

    return Format(
        name,
        (
            *("net.pt", "--model", "net.py:build", "--data", "npz:d.npz"),
            *("--loss", "cross_entropy", "--memory", "64MiB"),
        ),
        data() | {"net.pt": saved(weights()), "net.py": _HOOKS.encode()},
        (spoil,),
        runs=True,
    )
