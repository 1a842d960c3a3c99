"""The names that a pickle would import, listed by reading its opcodes and running none."""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from pathlib import Path
from typing import IO

from curvtool.problem.checkpoint.kind import Kind
from curvtool.problem.wording import first_line

_MOST = 64 * 2**20  # bytes of a pickle to read for the sake of a message

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
    pickled = io.BytesIO(pickle_of_zip(path) if kind is Kind.ZIP else _beginning(path, 0))
    # A legacy file is four pickles: magic number, protocol, machine, then the object itself.
    for _ in range(1 if kind is Kind.ZIP else 4):
        _collect(pickled, names)
    return sorted(name for name in names if not _HARMLESS.fullmatch(name))


def pickle_of_zip(path: Path, *, most: int = _MOST) -> bytes:
    """The pickle inside a zip file of torch.save, or its first bytes: of damaged files too."""
    # Not through ZipFile.read, which gives nothing of a record whose checksum is wrong.
    with zipfile.ZipFile(path) as archive:
        places = [i for i in archive.infolist() if i.filename.partition("/")[2] == "data.pkl"]
    start = places[0].header_offset
    name, extra = struct.unpack("<HH", _beginning(path, start + 26, 4).ljust(4, b"\0"))
    return _beginning(path, start + 30 + name + extra, min(places[0].file_size, most))


def _beginning(path: Path, start: int, size: int = _MOST) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


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
    except (ValueError, OverflowError, EOFError, MemoryError):
        return  # damaged: what was named so far is still worth naming


def said_by_torch(error: BaseException) -> str:
    """What torch says of a pickle, without its advice to load the file unprotected."""
    _, found, said = str(error).partition("WeightsUnpickler error:")
    return first_line(ValueError(said) if found else error)
