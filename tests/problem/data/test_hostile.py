"""Files made to do harm: each ends in a sentence, with no code run and no memory to speak of."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
import torchvision.transforms.v2  # noqa: F401  # so that its import is not counted

from tests.problem.data.making import WRITERS, W, X, Y, png, read, spec, tar
from tests.problem.sentences import refusal

MiB = 2**20
NAMES: dict[str, Any] = {"inputs": ("x",), "targets": "y"}


class Harm:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "harm"))


def pickled_npy(folder: Path) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.array([Harm(folder / "harm")], dtype=object), allow_pickle=True)
    return sink.getvalue()


def header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    """A .npy that declares numbers and has none."""
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        sink, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return sink.getvalue()


def npz_of(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def npz_pickled(folder: Path) -> str:
    npz_of(folder / "d.npz", x=pickled_npy(folder), y=pickled_npy(folder))
    return "npz:d.npz"


def npz_bomb(folder: Path) -> str:
    zeros = io.BytesIO()
    np.save(zeros, np.zeros(8 * MiB))
    npz_of(folder / "d.npz", x=zeros.getvalue(), y=zeros.getvalue())
    assert (folder / "d.npz").stat().st_size < MiB
    return "npz:d.npz"


def npz_lying(folder: Path) -> str:
    npz_of(folder / "d.npz", x=header((2**40,)), y=header((2**40,)))
    return "npz:d.npz"


def npy_pickled(folder: Path) -> str:
    (folder / "x.npy").write_bytes(pickled_npy(folder))
    np.save(folder / "y.npy", Y)
    return "npy:."


def npy_lying(folder: Path) -> str:
    (folder / "x.npy").write_bytes(header((2**40,)))
    np.save(folder / "y.npy", Y)
    return "npy:."


def csv_bomb(folder: Path) -> str:
    (folder / "d.csv.gz").write_bytes(gzip.compress(b"x,y\n" + b"0,0\n" * (16 * MiB)))
    return "csv:d.csv.gz"


def csv_one_line(folder: Path) -> str:
    (folder / "d.csv.gz").write_bytes(gzip.compress(b"0" * (64 * MiB)))
    return "csv:d.csv.gz"


def csv_truncated(folder: Path) -> str:
    content = gzip.compress(np.random.default_rng(0).bytes(5000).hex().encode())
    (folder / "d.csv.gz").write_bytes(content[:2000])
    return "csv:d.csv.gz"


def hdf5_declared(folder: Path) -> str:
    with h5py.File(folder / "d.h5", "w") as file:
        for name in "xy":
            file.create_dataset(name, shape=(2**44,), dtype="f8", chunks=(1024,))
    return "hdf5:d.h5"


def hdf5_external(folder: Path) -> str:
    (folder / "secret").write_bytes(bytes(80))
    with h5py.File(folder / "d.h5", "w") as file:
        file.create_dataset("x", shape=(10,), dtype="f8", external=[(folder / "secret", 0, 80)])
        file["y"] = np.zeros(10)
    return "hdf5:d.h5"


def hdf5_linked(folder: Path) -> str:
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = np.zeros(10)
    with h5py.File(folder / "d.h5", "w") as file:
        file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "x")
        file["y"] = np.zeros(10)
    return "hdf5:d.h5"


def hdf5_virtual(folder: Path) -> str:
    layout = h5py.VirtualLayout(shape=(10,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=(10,))
    with h5py.File(folder / "d.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
        file["y"] = np.zeros(10)
    return "hdf5:d.h5"


def hdf5_loop(folder: Path) -> str:
    with h5py.File(folder / "d.h5", "w") as file:
        group = file.create_group("group")
        group["again"] = file["/"]
    return "hdf5:d.h5"


def pt_pickled(folder: Path) -> str:
    torch.save({"x": Harm(folder / "harm"), "y": torch.zeros(3)}, folder / "d.pt")
    return "pt:d.pt"


def pt_expanded(folder: Path) -> str:
    torch.save(
        {"x": torch.zeros(1).expand(2**40), "y": torch.zeros(1).expand(2**40)}, folder / "d.pt"
    )
    return "pt:d.pt"


def pt_plain_pickle(folder: Path) -> str:
    (folder / "d.pt").write_bytes(pickle.dumps(Harm(folder / "harm")))
    return "pt:d.pt"


def arrow_bomb(folder: Path) -> str:
    zeros = pa.table({"x": np.zeros(8 * MiB), "y": np.zeros(8 * MiB)})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(folder / "d.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, zeros.schema, options=options) as writer,
    ):
        writer.write_table(zeros)
    assert (folder / "d.arrow").stat().st_size < MiB
    return "arrow:d.arrow"


def parquet_bomb(folder: Path) -> str:
    import pyarrow.parquet as pq

    zeros = pa.table({"x": np.zeros(8 * MiB), "y": np.zeros(8 * MiB)})
    pq.write_table(zeros, folder / "d.parquet", row_group_size=8 * MiB)
    assert (folder / "d.parquet").stat().st_size < MiB
    return "parquet:d.parquet"


def hf_escaping(folder: Path) -> str:
    (folder / "hf").mkdir()
    WRITERS["arrow_stream"](folder, x=X, y=Y)
    (folder / "hf" / "state.json").write_text('{"_data_files": [{"filename": "../s.arrow"}]}')
    return "hf:hf"


def link(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def tar_symlink(folder: Path) -> str:
    tar(folder / "d.tar", {"a.png": link("a.png", tarfile.SYMTYPE), "a.cls": b"1"})
    return "webdataset:d.tar"


def tar_hardlink(folder: Path) -> str:
    tar(folder / "d.tar", {"a.cls": b"1", "a.png": link("a.png", tarfile.LNKTYPE, "a.cls")})
    return "webdataset:d.tar"


def tar_device(folder: Path) -> str:
    tar(folder / "d.tar", {"a.png": link("a.png", tarfile.CHRTYPE), "a.cls": b"1"})
    return "webdataset:d.tar"


def tar_traversal(folder: Path) -> str:
    tar(folder / "d.tar", {"../a.png": png(np.zeros((2, 2), "u1")), "../a.cls": b"1"})
    return "webdataset:d.tar"


def tar_absolute(folder: Path) -> str:
    tar(folder / "d.tar", {"/etc/a.png": png(np.zeros((2, 2), "u1")), "/etc/a.cls": b"1"})
    return "webdataset:d.tar"


def tar_truncated(folder: Path) -> str:
    tar(folder / "d.tar", {"a.cls": b"1", "a.png": bytes(5000)})
    content = (folder / "d.tar").read_bytes()
    (folder / "d.tar").write_bytes(content[:3000])
    return "webdataset:d.tar"


def tar_huge_member(folder: Path) -> str:
    info = tarfile.TarInfo("a.png")
    info.size = 2**50
    (folder / "d.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    return "webdataset:d.tar"


def picture_bomb(folder: Path) -> str:
    from PIL import Image

    (folder / "pictures" / "class").mkdir(parents=True)
    Image.new("1", (20_000, 20_000)).save(folder / "pictures" / "class" / "a.png")
    return "imagefolder:pictures"


HOSTILE: dict[Callable[[Path], str], tuple[dict[str, Any], str]] = {
    npz_pickled: (NAMES, "pickled code and never loaded"),
    npz_bomb: (NAMES, "fit into the memory allowed"),
    npz_lying: (NAMES, "declares"),
    npy_pickled: (NAMES, "pickled code and never loaded"),
    npy_lying: (NAMES, "cannot be read"),
    csv_bomb: (NAMES, "fit into the memory allowed"),
    csv_one_line: ({"targets": "0"}, "fit into the memory allowed"),
    csv_truncated: ({"targets": "0"}, "cannot be read"),
    hdf5_declared: (NAMES, "declares"),
    hdf5_external: (NAMES, "names other files"),
    hdf5_linked: (NAMES, "an array 'x'"),
    hdf5_virtual: (NAMES, "names other files"),
    hdf5_loop: (NAMES, "an array 'x'"),
    pt_pickled: (NAMES, "asks to import code"),
    pt_expanded: (NAMES, "fit into the memory allowed"),
    pt_plain_pickle: (NAMES, "plain pickle"),
    arrow_bomb: (NAMES, "fit into the memory allowed"),
    parquet_bomb: (NAMES, "fit into the memory allowed"),
    hf_escaping: (NAMES, "'../s.arrow'"),
    tar_symlink: ({}, "a link or a device"),
    tar_hardlink: ({}, "a link or a device"),
    tar_device: ({}, "a link or a device"),
    tar_traversal: ({}, "names inside the archive"),
    tar_absolute: ({}, "names inside the archive"),
    tar_truncated: ({}, "unexpected end of data"),
    tar_huge_member: ({}, "cannot be read"),
    picture_bomb: ({}, "exceeds limit"),
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_harm_ends_in_a_sentence(make: Callable[[Path], str], tmp_path: Path) -> None:
    parts, came = HOSTILE[make]
    source = make(tmp_path)
    tracemalloc.start()
    try:
        refusal(
            lambda: read(spec(tmp_path, source, **parts), memory=32 * MiB), came=came, remedy=""
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "harm").exists()
    # What Python and NumPy took: no more than was allowed, and the sentence.
    assert peak < 48 * MiB


@pytest.mark.parametrize("cut", [0, 1, 100, 0.3, 0.7, -1])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_was_cut_off(name: str, cut: float, tmp_path: Path) -> None:
    source = WRITERS[name](tmp_path, x=X, y=Y, w=W)
    if name == "npy":
        path = tmp_path / "npy" / "x.npy"
    elif name == "hf":
        path = tmp_path / "hf" / "data-00001-of-00002.arrow"
    else:
        path = tmp_path / source.partition(":")[2]
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content)) if 0 < cut < 1 else int(cut)])
    tables = name in {"csv", "tsv_gz", "parquet", "arrow", "arrow_stream"}
    data = spec(tmp_path, source, inputs=("a", "f") if tables else ("x",), targets="y")
    if name == "csv" and cut in {0.3, 0.7, -1}:
        # Text that ends early may be whole as far as it goes.
        path.write_text(path.read_text().rpartition("\n")[0] + "\n1.0,2.0")
    if name in {"npy", "arrow_stream", "hf", "parquet_lists"} and cut == -1:
        return  # padding at the end, or a last byte that says the stream is over
    refusal(lambda: read(data), came="", remedy="")
