"""The names that a pickle would import, listed by reading its opcodes and running none."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO

from curvtool.problem.checkpoint.kind import Kind

# What tensors and plain containers need: no sign of code.
_HARMLESS = re.compile(
    r"collections\.(OrderedDict|defaultdict|Counter)"
    r"|torch\._utils\._rebuild_\w+"
    r"|torch\.(Size|device|\w*Storage|\w*Tensor|storage\.\w+|serialization\._get_layout)"
    r"|torch\.(float|bfloat|complex|u?int|q?u?int|bool|double|half|long)\w*"
    r"|torch\.nn\.parameter\.(Parameter|Buffer)"
    r"|_codecs\.encode|(builtins|__builtin__)\.(set|frozenset|bytearray|dict|list|tuple)"
)


def code_named_by(path: Path, kind: Kind) -> list[str]:
    """Names of functions and classes that loading the file without protection would import.

    Args:
        path: a file of torch.save.
        kind: its format.

    Returns:
        Dotted names, sorted, without those that plain tensors need; what could be read of them
        where the pickle is damaged.
    """
    names: set[str] = set()
    if kind is Kind.ZIP:
        with zipfile.ZipFile(path) as archive:
            inner = [n for n in archive.namelist() if n.partition("/")[2] == "data.pkl"]
            for name in inner[:1]:
                _collect(io.BytesIO(archive.read(name)), names)
    else:
        with path.open("rb") as file:
            for _ in range(4):  # magic number, protocol, machine, then the object itself
                _collect(file, names)
    return sorted(name for name in names if not _HARMLESS.fullmatch(name))


def _collect(file: IO[bytes], names: set[str]) -> None:
    strings: list[str] = []
    memo: dict[int, str | None] = {}
    last: str | None = None  # the string on top of the pickle's stack, if it is one
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in {"GLOBAL", "INST"}:
                names.add(str(argument).replace(" ", ".", 1))
            elif opcode.name == "STACK_GLOBAL":
                names.add(".".join(strings[-2:]))
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = last
                continue
            elif opcode.name.endswith("PUT"):
                memo[int(argument or 0)] = last
                continue
            last = memo.get(int(argument or 0)) if opcode.name.endswith("GET") else argument
            last = last if isinstance(last, str) else None
            if last is not None and opcode.name not in {"GLOBAL", "INST"}:
                strings.append(last)
    except (ValueError, UnicodeDecodeError, OverflowError, EOFError):
        return  # damaged: what was named so far is still worth naming
