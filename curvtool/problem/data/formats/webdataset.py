"""`webdataset:FILE.tar`: shards of WebDataset, indexed once and read by member, never unpacked."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.data.allowance import Allowance
from curvtool.problem.data.examples import Rows, Source
from curvtool.problem.data.files import file_of, read_kwargs, unreadable
from curvtool.problem.data.numbers import from_array
from curvtool.problem.data.pictures import MODE, MODES, SUFFIXES, decoded
from curvtool.problem.spec import DataSpec
from curvtool.problem.wording import listed

_PICTURES = frozenset(SUFFIXES)
_NUMBERS = frozenset({"cls", "cls2", "index", "inx", "id", "json", "txt", "npy"})
_PICKLED = frozenset({"pyd", "pickle", "pkl", "pth", "pt", "ten", "tb", "joblib", "dill"})
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000


@final
@dataclass(frozen=True)
class _Member:
    """Where the bytes of a member are."""

    shard: Path
    name: str
    start: int
    size: int


def open_webdataset(spec: DataSpec, argument: str, allowance: Allowance) -> Callable[[], Source]:
    """Find the shards.

    An example is the members of one name up to its first dot; what follows the dot says what they
    are.

    Args:
        spec: the data; `inputs` and `targets` name endings, the one of pictures and "cls" where
            they are not given. Argument: `mode` of pictures, "RGB" or "L".
        argument: a file, a pattern (`train-*.tar`), or a range (`train-{000..007}.tar`).
        allowance: memory that a member may take.

    Returns:
        What indexes them; members are read as they are used.
    """
    mode = read_kwargs(spec, MODE).get("mode", MODES[0])
    shards = _shards(spec, argument)
    return lambda: _read(spec, shards, mode, allowance)


def _shards(spec: DataSpec, argument: str) -> list[Path]:
    found = _RANGE.search(argument)
    if found:
        first, last, width = int(found[1]), int(found[2]), len(found[1])
        if last - first >= _MOST_SHARDS:
            raise InputError(
                f"{spec.origin.label}: expected at most {_MOST_SHARDS:,} shards; got {argument!r}. "
                f"Name fewer."
            )
        before, after = argument[: found.start()], argument[found.end() :]
        names = [f"{before}{i:0{width}}{after}" for i in range(first, last + 1)]
        return [file_of(spec, name, "a shard (.tar)") for name in names]
    if "*" in argument:
        pattern = spec.origin.base / argument
        matching = sorted(p for p in pattern.parent.glob(pattern.name) if p.is_file())
        if matching:
            return matching
    return [file_of(spec, argument, "a shard (.tar)")]


def _read(spec: DataSpec, shards: Sequence[Path], mode: str, allowance: Allowance) -> Source:
    if spec.weights is not None:
        raise InputError(
            f"{spec.origin.label}: expected no weights for {spec.source}: its examples are two "
            f"parts. Leave weights out, or write a hook: --data file.py:dataset."
        )
    examples: dict[str, dict[str, _Member]] = {}
    for number, shard in enumerate(shards):
        for member in _members(shard):
            folder, slash, base = member.name.rpartition("/")
            key, _, suffix = base.partition(".")
            parts = examples.setdefault(f"{number}:{folder}{slash}{key}", {})
            parts[suffix.lower()] = member
    suffixes = {suffix for parts in examples.values() for suffix in parts}
    inputs = spec.inputs or _first(suffixes & _PICTURES)
    targets = spec.targets or ("cls" if "cls" in suffixes else None)
    if not inputs or targets is None:
        raise InputError(
            f"{shards[0]}: expected to be told which members are inputs and targets; those of an "
            f"example end in {listed(sorted(suffixes)) or 'nothing'}. Add under [data]: "
            f'inputs = "npy", targets = "cls", or --data-kwargs inputs=NAME targets=NAME.'
        )
    wanted = (*inputs, targets)
    for suffix in wanted:
        if _kind(suffix) not in _PICTURES | _NUMBERS:
            pickled = _kind(suffix) in _PICKLED
            why = ", which are pickles, and loading one runs its code" if pickled else ""
            raise InputError(
                f"{shards[0]}: expected members that are pictures or numbers "
                f"({listed(sorted(_NUMBERS))}); got .{suffix}{why}. Write them as .npy."
            )
    rows = []
    for key, parts in examples.items():
        lacking = [suffix for suffix in wanted if suffix not in parts]
        if lacking:
            raise InputError(
                f"{shards[0]}: expected every example to have .{', .'.join(wanted)}; "
                f"{key.partition(':')[2]!r} has no .{lacking[0]}. Correct inputs and targets under "
                f"[data], or write the shards again."
            )
        rows.append(tuple(parts[suffix] for suffix in wanted))
    return Source(spec.source, Rows(_Examples(rows, mode, allowance), alone=True))


def _members(shard: Path) -> Iterator[_Member]:
    """Regular files of a tar, in order; anything else in it but folders is refused."""
    size = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as archive:
            for entry in archive:
                if entry.isdir():
                    continue
                path = Path(entry.name)
                if not entry.isreg() or entry.issparse():
                    raise InputError(
                        f"{shard}: expected regular files; {entry.name!r} is a link or a device. "
                        f"Nothing is followed from an archive: write the file itself."
                    )
                if path.is_absolute() or ".." in path.parts:
                    raise InputError(
                        f"{shard}: expected names inside the archive; got {entry.name!r}. Write "
                        f"the shard again."
                    )
                if entry.size < 0 or entry.offset_data + entry.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                yield _Member(shard, entry.name, entry.offset_data, entry.size)
    except InputError:
        raise
    except Exception as error:  # tarfile raises its own, OSError, ValueError, OverflowError
        raise unreadable(
            shard,
            "a tar archive without compression (WebDataset)",
            error,
            "Unpack what is compressed (gunzip), since members are read where they are; or copy "
            "the file again.",
        ) from error


def _first(found: set[str]) -> tuple[str, ...]:
    return (sorted(found)[0],) if len(found) == 1 else ()


def _kind(suffix: str) -> str:
    """What a member is: the last part of its ending, so that "left.png" is a picture."""
    return suffix.rpartition(".")[2]


@final
class _Examples:
    """Examples by index."""

    def __init__(self, rows: list[tuple[_Member, ...]], mode: str, allowance: Allowance) -> None:
        self._rows, self._mode, self._allowance = rows, mode, allowance

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(self._part(member) for member in self._rows[index])

    def _part(self, member: _Member) -> Tensor:
        place = f"{member.shard}, {member.name}"
        self._allowance.require(place, member.size, "members", "Leave the example out.")
        with member.shard.open("rb") as file:
            file.seek(member.start)
            content = file.read(member.size)
        kind = _kind(Path(member.name).name.partition(".")[2].lower())
        if kind in _PICTURES:
            return decoded(content, place, self._mode)
        try:
            if kind == "npy":
                return _array(content, place)
            text = content.decode()
            value = json.loads(text) if kind == "json" else _number(text)
            return from_array(np.asarray(value), member.name, place)
        except InputError:
            raise
        except Exception as error:  # json, numpy and int each have their own
            raise unreadable(place, "numbers", error, "Write the example again.") from error


def _array(content: bytes, place: str) -> Tensor:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise InputError(f"{place}: expected one array; got an archive. Write it by np.save.")
    return from_array(array, "npy", place)


def _number(text: str) -> object:
    text = text.strip()
    try:
        return int(text)
    except ValueError:
        return float(text)
