"""The same examples written in every format, and read through the door that a run uses."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch import Tensor

from curvtool.problem.data import (
    Allowance,
    Batches,
    make_batches,
    preprocessing_of,
    resolve_data,
)
from curvtool.problem.spec import DataSpec, Origin

N = 23
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(N, 6))
Y = GENERATOR.integers(0, 4, N)
W = GENERATOR.integers(0, 3, N).astype("f8")
NAMES = ("a", "b", "c", "d", "e", "f")


def spec(folder: Path, source: str, *, trusted: bool = True, **parts: object) -> DataSpec:
    origin = Origin("lab.toml", folder, trusted)
    return DataSpec(source, origin, **parts)  # type: ignore[arg-type]


def read(
    data: DataSpec,
    *,
    size: int | None = None,
    most: int | None = None,
    memory: int | None = None,
    seed: int = 0,
) -> Batches:
    """As `load_problem` does it."""
    allowance = Allowance() if memory is None else Allowance(memory)
    return make_batches(
        resolve_data(data, allowance)(),
        batch_size=size,
        max_examples=most,
        seed=seed,
        preprocessing=preprocessing_of(data),
        weights=data.weights,
        allowance=allowance,
    )


def tensors(made: Batches) -> list[Tensor]:
    """Parts and weights of all batches, joined."""
    columns = zip(*(batch.fetched().tensors for batch in made.batches), strict=True)
    return [torch.cat(column) for column in columns]


def write_npz(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "d.npz", **arrays)
    return "npz:d.npz"


def write_npy(folder: Path, **arrays: Any) -> str:
    (folder / "npy").mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / "npy" / f"{name}.npy", array)
    return "npy:npy"


def table(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a table, x as one column for each of its features."""
    columns = dict(zip(NAMES, arrays["x"].T, strict=False))
    return columns | {name: array for name, array in arrays.items() if name != "x"}


def csv_text(arrays: Mapping[str, Any], delimiter: str = ",") -> str:
    columns = table(arrays)
    lines = [delimiter.join(columns)]
    lines += [
        delimiter.join(repr(value.item()) for value in row)
        for row in zip(*columns.values(), strict=True)
    ]
    return "\n".join(lines) + "\n"


def write_csv(folder: Path, **arrays: Any) -> str:
    (folder / "d.csv").write_text(csv_text(arrays))
    return "csv:d.csv"


def write_tsv_gz(folder: Path, **arrays: Any) -> str:
    (folder / "d.tsv.gz").write_bytes(gzip.compress(csv_text(arrays, "\t").encode()))
    return "csv:d.tsv.gz"


def write_parquet(folder: Path, **arrays: Any) -> str:
    whole = pa.table(table(arrays))
    pq.write_table(whole, folder / "d.parquet.brotli", compression="brotli", row_group_size=5)
    return "parquet:d.parquet.brotli"


def write_parquet_lists(folder: Path, **arrays: Any) -> str:
    columns = {name: list(array) for name, array in arrays.items()}
    pq.write_table(pa.table(columns), folder / "lists.parquet", row_group_size=7)
    return "parquet:lists.parquet"


def write_arrow(folder: Path, **arrays: Any) -> str:
    whole = pa.table(table(arrays))
    with (
        pa.OSFile(str(folder / "d.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, whole.schema) as writer,
    ):
        writer.write_table(whole, max_chunksize=4)
    return "arrow:d.arrow"


def write_arrow_stream(folder: Path, **arrays: Any) -> str:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    whole = pa.table(table(arrays))
    with (
        pa.OSFile(str(folder / "s.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, whole.schema, options=options) as writer,
    ):
        writer.write_table(whole, max_chunksize=4)
    return "arrow:s.arrow"


def write_hdf5(folder: Path, **arrays: Any) -> str:
    with h5py.File(folder / "d.h5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=(3, *array.shape[1:]), compression="gzip")
    return "hdf5:d.h5"


def write_safetensors(folder: Path, **arrays: Any) -> str:
    save_file({n: torch.from_numpy(a) for n, a in arrays.items()}, folder / "d.safetensors")
    return "safetensors:d.safetensors"


def write_pt(folder: Path, **arrays: Any) -> str:
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "d.pt")
    return "pt:d.pt"


def write_hf(folder: Path, **arrays: Any) -> str:
    """What `datasets.Dataset.save_to_disk` writes, made by hand: a test holds it against that."""
    place = folder / "hf"
    place.mkdir(exist_ok=True)
    whole = pa.table({name: list(array) for name, array in arrays.items()})
    files = []
    for number, (start, stop) in enumerate(((0, 10), (10, N))):
        files.append({"filename": f"data-{number:05}-of-00002.arrow"})
        with (
            pa.OSFile(str(place / files[-1]["filename"]), "wb") as sink,
            pa.ipc.new_stream(sink, whole.schema) as writer,
        ):
            writer.write_table(whole.slice(start, stop - start), max_chunksize=4)
    (place / "state.json").write_text(json.dumps({"_data_files": files, "_split": None}))
    (place / "dataset_info.json").write_text("{}")
    return "hf:hf"


WRITERS: dict[str, Callable[..., str]] = {
    name.removeprefix("write_"): function
    for name, function in globals().items()
    if name.startswith("write_")
}


def tar(path: Path, members: Mapping[str, bytes | tarfile.TarInfo]) -> None:
    """A tar of members; a `TarInfo` is put in as it is, without content."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))


def png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    sink = BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()
