"""Weights in several files with an index: `*.safetensors.index.json`, `*.bin.index.json`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint.content import Content
from curvtool.problem.checkpoint.formats.members import member, read_json
from curvtool.problem.wording import kind_of, listed


def read_sharded(path: Path, read: Callable[[Path], Content]) -> Content:
    """Read all files that an index names.

    Args:
        path: the index.
        read: reads one of its files.

    Returns:
        The tensors under the names of the index.

    Raises:
        InputError: for an index of another form, a file that is not beside it, or tensors that
            the index promises and the files lack, or the other way round.
    """
    places = _weight_map(path)
    files = [path]
    tensors: dict[str, Tensor] = {}
    extra: list[str] = []
    for name in sorted(set(places.values())):
        shard = member(path.parent, name, named_by=path)
        content = read(shard)
        if not isinstance(content.payload, dict):
            raise InputError(
                f"{shard}: expected a dict of tensors, as {path.name} says; got "
                f"{kind_of(content.payload)}. Copy the whole folder."
            )
        files.append(shard)
        for key, value in content.payload.items():
            if places.get(key) == name and isinstance(value, Tensor):
                tensors[key] = value
            else:
                extra.append(str(key))
    missing = [key for key in places if key not in tensors]
    if missing or extra:
        raise InputError(
            f"{path}: expected the files to hold the {len(places)} tensors that it lists; "
            f"{len(missing)} are missing ({listed(missing, most=4) or 'none'}) and {len(extra)} "
            f"are there unlisted ({listed(extra, most=4) or 'none'}). Copy the whole folder."
        )
    return Content(tensors, tuple(files))


def _weight_map(path: Path) -> dict[str, str]:
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(
            f'{path}: expected the index of a checkpoint, with a table "weight_map" from tensors '
            f"to files; got {kind_of(places)} there. Give the index of the weights, or their "
            f"folder."
        )
    for name in places.values():
        if not isinstance(name, str):
            member(path.parent, name, named_by=path)  # raises
    return places
