"""Damage: to bytes as disks and transfers do it, to JSON and tables as a hostile hand does it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

# Numbers at which lengths, counts and offsets break.
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1)
_MOST = 2**20  # no case is made larger than this by repeating


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content with one kind of damage; it may be whole again by chance."""
    return rng.choice(_DAMAGES)(bytearray(content or b"\0"), rng)


def _flipped(content: bytearray, rng: random.Random) -> bytes:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _flipped_often(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((2, 5, 20, 100))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _flipped_at_the_ends(content: bytearray, rng: random.Random) -> bytes:
    """Headers and directories, where a bit says most."""
    reach = min(len(content), rng.choice((16, 64, 256)))
    at = rng.randrange(reach)
    content[at if rng.random() < 0.5 else len(content) - 1 - at] ^= 1 << rng.randrange(8)
    return bytes(content)


def _truncated(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def _beheaded(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[rng.randrange(len(content)) :])


def _number(content: bytearray, rng: random.Random) -> bytes:
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice(EDGES) % 256**width
    at = rng.randrange(len(content))
    content[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return bytes(content)


def _zeroed(content: bytearray, rng: random.Random) -> bytes:
    start, stop = _range(content, rng)
    content[start:stop] = bytes(stop - start)
    return bytes(content)


def _removed(content: bytearray, rng: random.Random) -> bytes:
    start, stop = _range(content, rng)
    del content[start:stop]
    return bytes(content)


def _repeated(content: bytearray, rng: random.Random) -> bytes:
    start, stop = _range(content, rng)
    times = min(rng.choice((1, 3, 1000)), _MOST // max(1, stop - start))
    content[start:start] = content[start:stop] * times
    return bytes(content)


def _inserted(content: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    content[at:at] = rng.randbytes(rng.choice((1, 4, 64, 1024)))
    return bytes(content)


def _swapped(content: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return bytes(content[at:] + content[:at])


def _wrong_magic(content: bytearray, rng: random.Random) -> bytes:
    magic = rng.choice((
        *(b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY\x01\0", b"PAR1", b"ARROW1\0\0"),
        *(b"\x1f\x8b\x08", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46", b"\x80\x04", b"\x89PNG", b"GIF89a"),
        *(b"ustar", b"{", b"\xff\xfe", b"BZh9", b"\0" * 16, b"%!PS-Adobe", b"PK\x05\x06"),
    ))
    return magic + bytes(content[rng.choice((0, len(magic))) :])


def _replaced(content: bytearray, rng: random.Random) -> bytes:
    return rng.choice((b"", b"\n", bytes(len(content)), rng.randbytes(len(content)), b"\xff" * 64))


_DAMAGES: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    *(_flipped, _flipped, _flipped_often, _flipped_at_the_ends, _flipped_at_the_ends),
    *(_truncated, _truncated, _beheaded, _number, _number, _zeroed, _removed, _repeated),
    *(_inserted, _swapped, _wrong_magic, _replaced),
)


def _range(content: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, min(len(content), start + rng.choice((1, 4, 16, 128, 4096)))


# Names and values that lead elsewhere, are too many, or of another kind.
NAMES = (
    *("../outside", "/etc/passwd", "..", ".", "", "a\0b", "a" * 5000, "\x1b[2J", "\u202e"),
    *("a/b", "a\\b", "\ud800", "file:///etc/passwd", "http://127.0.0.1:9/x", "~/x", "*", "[", "%s"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**40, 2**63, 10**30, 0.0, -0.5, 1e308),
    *(float("nan"), float("inf"), [], {}, [[]], [0], {"a": {}}, "x", [None], [-1, -1], [2**40] * 9),
    *NAMES,
)


def respelt(value: Any, rng: random.Random, *, values: tuple[Any, ...] = VALUES) -> Any:
    """A tree of dicts and lists with one to three of its parts changed, gone or repeated."""
    tree = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not isinstance(tree, dict | list):
            break
        places = list(_places(tree))
        if not places:
            break
        _change(*rng.choice(places), rng, values)
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found = []
    for key, value in list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)):
        found.append((tree, key))
        if isinstance(value, dict | list):
            found += _places(value)
    return found


def _change(parent: Any, key: Any, rng: random.Random, values: tuple[Any, ...]) -> None:
    what = rng.randrange(6)
    if what == 0:
        del parent[key]
    elif what == 1 and isinstance(parent, dict):
        parent[rng.choice(NAMES)] = parent.pop(key)
    elif what == 2 and isinstance(parent[key], int) and not isinstance(parent[key], bool):
        parent[key] += rng.choice((-1, 1, 2**32, -parent[key]))
    elif what == 3 and isinstance(parent[key], str):
        parent[key] = damaged(parent[key].encode("utf-8", "replace"), rng).decode("latin-1")
    elif what == 4:
        parent[key] = [parent[key]]
    else:
        parent[key] = copy.deepcopy(rng.choice(values))
