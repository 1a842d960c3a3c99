"""Pickles made to do harm: calls of everything that runs, writes or fetches, and opcodes at random.

Each call would leave a file at `canary`, so that one that was made is seen afterwards.
"""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

Call = tuple[str, str, tuple[Any, ...]]
MODULE = "fuzz_canary"  # importing it leaves the file, too


def calls(canary: Path) -> list[Call]:
    """Functions by module and name, with arguments by which each would leave the file."""
    path, program = str(canary), f"open({str(canary)!r}, 'w').close()"
    return [
        ("posix", "system", (f"touch '{path}'",)),
        ("os", "system", (f"touch '{path}'",)),
        ("os", "mkdir", (path,)),
        ("os", "popen", (f"touch '{path}'",)),
        ("subprocess", "Popen", (["touch", path],)),
        ("subprocess", "call", (["touch", path],)),
        ("builtins", "exec", (program,)),
        ("builtins", "eval", (program,)),
        ("__builtin__", "eval", (program,)),
        ("builtins", "open", (path, "w")),
        ("io", "open", (path, "w")),
        ("_io", "FileIO", (path, "w")),
        ("codecs", "open", (path, "w")),
        ("builtins", "getattr", ("x", "__class__")),
        ("builtins", "__import__", (MODULE,)),
        ("importlib", "import_module", (MODULE,)),
        (MODULE, "run", ()),
        ("runpy", "run_module", (MODULE,)),
        ("pathlib", "Path.touch", (canary,)),
        ("pathlib", "PosixPath.write_text", (canary, "x")),
        ("torch", "save", ({}, path)),
        ("torch", "load", (path,)),
        ("torch.storage", "_load_from_bytes", (pickle.dumps(1),)),
        ("torch.jit", "load", (path,)),
        ("torch.serialization", "load", (path,)),
        ("torch.hub", "load_state_dict_from_url", ("http://127.0.0.1:9/x",)),
        ("torch.distributed.checkpoint.metadata", "pickle.loads", (b"cos\nsystem\n(S'true'\ntR.",)),
        ("torch.utils.cpp_extension", "load_inline", ("x", "y")),
        ("numpy", "savetxt", (path, [1])),
        ("numpy", "load", (path,)),
        ("numpy.testing._private.utils", "runstring", (program, {})),
        ("timeit", "timeit", (program,)),
        ("cProfile", "run", (program,)),
        ("code", "interact", ()),
        ("shutil", "copy", ("/etc/hostname", path)),
        ("socket", "create_connection", (("127.0.0.1", 9),)),
        ("urllib.request", "urlopen", ("http://127.0.0.1:9/",)),
        ("ctypes", "CDLL", ("libc.so.6",)),
        ("operator", "methodcaller", ("touch",)),
        ("functools", "partial", (print, path)),
        ("transformers", "pipeline", ("text-generation",)),
        ("pytorch_lightning.trainer", "Trainer", ()),
    ]


def hostile(canary: Path, rng: random.Random, *, inside: bytes = b"N") -> bytes:
    """A pickle that calls one of `calls`; `inside` is what else it holds (opcodes)."""
    module, name, arguments = rng.choice(calls(canary))
    tuple_of = _arguments(arguments)
    made = rng.choice((
        _global(module, name, rng) + tuple_of + b"R",
        _global(module, name, rng) + b")R",
        _global(module, name, rng) + tuple_of + b"\x81",
        _global(module, name, rng) + tuple_of + b"}\x92",
        b"(" + _global(module, name, rng) + tuple_of + b"o",
        b"(" + tuple_of + f"i{module}\n{name}\n".encode(),
        _global(module, name, rng),
        _global(module, name, rng) + b")R}X\x01\0\0\0a" + tuple_of + b"sb",
        b"ctorch._utils\n_rebuild_parameter\n(" + _global(module, name, rng) + tuple_of + b"RtR",
        b"ccollections\nOrderedDict\n)R}X\x01\0\0\0x" + _global(module, name, rng) + b"sb",
    ))
    whole = rng.choice((
        made,
        made + b"0" + inside,
        b"}(X\x0a\0\0\0state_dict" + inside + b"X\x05\0\0\0extra" + made + b"u",
        b"](" + inside + made + b"e",
        b"}" + made + b"Ns",
        made + b"Q",
    ))
    return b"\x80" + bytes([rng.choice((0, 1, 2, 2, 2, 3, 4, 5))]) + whole + b"."


def _global(module: str, name: str, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return f"c{module}\n{name}\n".encode()
    return _text(module) + _text(name) + b"\x93"


def _text(text: str) -> bytes:
    content = text.encode()
    return b"X" + len(content).to_bytes(4, "little") + content


def _arguments(arguments: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps(arguments, protocol=2)[2:-1]
    except Exception:  # noqa: BLE001  # a function written in C, on some version
        return b")"


_STEPS = (
    *(b"N", b"\x88", b"]", b"}", b")", b"(", b"\x8f", b"K\x01", b"J\xff\xff\xff\x7f"),
    *(b"X\x01\0\0\0a", b"U\x01a", b"C\x01a", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
    *(b"\x85", b"\x86", b"\x87", b"t", b"a", b"e", b"s", b"u", b"\x90", b"\x91"),
    *(
        b"0",
        b"1",
        b"2",
        b"R",
        b"b",
        b"\x81",
        b"\x92",
        b"o",
        b"q\0",
        b"q\1",
        b"h\0",
        b"h\1",
        b"\x94",
    ),
    *(b"Q", b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"\x82\x01", b"\x96" + b"\xff" * 8),
    *(b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x7f", b"\x95" + b"\xff" * 8, b"\x97"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ctorch\nSize\n"),
    *(b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\ndevice\n"),
    *(b"ctorch._utils\n_rebuild_sparse_tensor\n", b"ctorch\nfloat32\n", b"c_codecs\nencode\n"),
    *(b"ctorch._utils\n_rebuild_qtensor\n", b"ctorch\nTensor\n", b"ctorch\nsparse_coo\n"),
    *(b"ctorch._utils\n_rebuild_wrapper_subclass\n", b"ctorch.serialization\n_get_layout\n"),
    *(b"ctorch.distributed.checkpoint.metadata\nMetadata\n", b"cpathlib\nPosixPath\n"),
    b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\x04tQ",
)


def soup(rng: random.Random) -> bytes:
    """Opcodes at random, some of them very often."""
    steps = [rng.choice(_STEPS) for _ in range(rng.choice((1, 3, 10, 40, 200)))]
    if rng.random() < 0.2:
        at = rng.randrange(len(steps))
        steps[at] *= rng.choice((100, 1000, 20_000))
    return b"\x80" + bytes([rng.choice((2, 2, 4, 5))]) + b"".join(steps) + b"."
