"""Checkpoint folders for tests, as the libraries that invented them write them."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

WEIGHTS = {
    "0.weight": torch.arange(12.0).reshape(4, 3),
    "0.bias": torch.ones(4),
    "2.weight": torch.full((2, 4), 0.5),
    "2.bias": torch.zeros(2),
}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def same(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor] = WEIGHTS) -> bool:
    return tensors.keys() == wanted.keys() and all(
        torch.equal(tensors[key], value) and tensors[key].dtype == value.dtype
        for key, value in wanted.items()
    )


def write_sharded(folder: Path, *, safe: bool = True) -> Path:
    """Two files and an index; returns the index."""
    folder.mkdir(exist_ok=True)
    names = list(WEIGHTS)
    stem, suffix = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    places: dict[str, str] = {}
    for number, keys in enumerate((names[:2], names[2:]), start=1):
        shard = f"{stem}-0000{number}-of-00002.{suffix}"
        part = {key: WEIGHTS[key] for key in keys}
        if safe:
            save_file(part, folder / shard)
        else:
            torch.save(part, folder / shard)
        places |= dict.fromkeys(keys, shard)
    return write_index(folder / f"{stem}.{suffix}.index.json", places)


def write_index(path: Path, places: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps({"metadata": {"total_size": 104}, "weight_map": dict(places)}))
    return path


def write_distributed(folder: Path, content: Mapping[str, Any]) -> Path:
    """What `torch.distributed.checkpoint.save` writes in one process."""
    from torch.distributed.checkpoint.state_dict_saver import save

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no process group is there
        save(dict(content), checkpoint_id=folder)
    return folder


class Hostile:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self._path}'",)


def metadata(folder: Path) -> Any:
    """What `.metadata` holds; the test wrote it itself."""
    return pickle.loads((folder / ".metadata").read_bytes())


def write_metadata(folder: Path, content: object) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(content))
