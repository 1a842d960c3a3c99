"""Data of every format, and what can be wrong with each."""

from __future__ import annotations

import gzip
import io
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torchvision.datasets  # noqa: F401  # once, and not in every worker
import torchvision.transforms.v2  # noqa: F401

from curvtool.problem.models import cnn, gpt, mlp
from tests.fuzz.archives import spoilt_tar, spoilt_zip, zipped
from tests.fuzz.cases import Format, Spoil, at_bytes, gone_or_elsewhere, read, replaced
from tests.fuzz.checkpoints import respelt_json, saved, spoilt_pickle, spoilt_safetensors
from tests.fuzz.mutating import damaged
from tests.fuzz.pickles import hostile
from tests.problem.data.making import WRITERS, W, X, Y, png, tar

_TABLES = {"csv", "tsv_gz", "parquet", "arrow", "arrow_stream"}
_LIMIT = ("--memory", "64MiB")


def formats() -> list[Format]:
    """All formats of data."""
    return [*map(_written, WRITERS), _text(), _imagefolder(), _webdataset()]


def _weights(model: torch.nn.Module) -> dict[str, bytes]:
    return {"net.pt": saved(dict(model.state_dict()))}


def _written(name: str) -> Format:
    with tempfile.TemporaryDirectory() as folder:
        source = WRITERS[name](Path(folder), x=X, y=Y, w=W)
        files = read(Path(folder))
    torch.manual_seed(0)
    inputs = '["a","b","c","d","e","f"]' if name in _TABLES else "x"
    kwargs = (
        *("--data-kwargs", f"inputs={inputs}", "--data-kwargs", "targets=y"),
        *("--data-kwargs", "weights=w"),
    )
    return Format(
        name,
        (
            *("net.pt", "--model", "mlp", "--model-kwargs", "sizes=[6,4,4]"),
            *("--data", source, *kwargs, "--loss", "cross_entropy", *_LIMIT),
        ),
        _weights(mlp(sizes=[6, 4, 4])) | files,
        (at_bytes(*files), at_bytes(*files), gone_or_elsewhere(*files), *_SPOILS.get(name, ())),
    )


def _arrays(rng: random.Random, canary: Path) -> dict[str, Any]:
    """Arrays of kinds, shapes and values that nobody trains on, one of them at least."""
    arrays: dict[str, Any] = {"x": X, "y": Y, "w": W}
    name = rng.choice(list(arrays))
    good = arrays[name]
    arrays[name] = rng.choice((
        lambda: good[:0],
        lambda: good[:-1],
        lambda: good[0],
        lambda: good.reshape(-1, 1, *good.shape[1:]).repeat(3, axis=1),
        lambda: np.full_like(good, rng.choice((-1, 4, 100, 2**31)), dtype="f8"),
        lambda: np.full(good.shape, rng.choice((np.nan, np.inf, -1e308)), dtype="f8"),
        lambda: good.astype(rng.choice(("u1", "i2", "u8", "f2", ">f4", ">i8", "?", "f4"))),
        lambda: good.astype(rng.choice(("c16", "S3", "U3", "M8[s]", "m8[s]", "g"))),
        lambda: np.full(good.shape, 2**64 - 1, dtype="u8"),
        lambda: np.zeros(good.shape, dtype=[("a", "f8"), ("b", "i4")]),
        lambda: np.asfortranarray(good),
    ))()
    return arrays


def _npy_of(array: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=True)
    return sink.getvalue()


def _object_npy(rng: random.Random, canary: Path) -> bytes:
    """An array of Python objects, whose pickle is hostile."""
    content = _npy_of(np.array([None], dtype=object))
    return content[:128] + hostile(canary, rng)


def _npy_header(content: bytes, rng: random.Random) -> bytes:
    """A header that says what is not so."""
    head = rng.choice((
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': [('a', '<f8', (2,)*9)], 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<f8', 'fortran_order': 1, 'shape': (3,3,3,3,3,3,3,3,3)*9, }",
        "__import__('os').system('true')",
        "{'descr': __import__('fuzz_canary'), 'fortran_order': False, 'shape': ()}",
        "[" * 5000,
        "-" * 9000 + "1",
        "{'descr': '<V1000000000', 'fortran_order': False, 'shape': (99999,), }",
    )).encode("latin-1")
    return b"\x93NUMPY\x01\0" + len(head).to_bytes(2, "little") + head + content[128:]


def _npz(_: bytes, rng: random.Random, canary: Path) -> bytes:
    members = {f"{k}.npy": _npy_of(v) for k, v in _arrays(rng, canary).items()}
    name = rng.choice(list(members))
    if rng.random() < 0.4:
        members[name] = rng.choice((
            lambda: _object_npy(rng, canary),
            lambda: _npy_header(members[name], rng),
            lambda: hostile(canary, rng),
            lambda: damaged(members[name], rng),
        ))()
    return zipped(members, how=rng.choice((0, 8, 12, 14)))


def _npy(content: bytes, rng: random.Random, canary: Path) -> bytes:
    return rng.choice((
        lambda: _object_npy(rng, canary),
        lambda: _npy_header(content, rng),
        lambda: hostile(canary, rng),
        lambda: _npy_of(_arrays(rng, canary)["x"]),
    ))()


_CELLS = (
    *("", "x", "nan", "inf", "-1", "1e999", "9" * 400, "0x1", "1_0", "١", '"', '"1"', "'", "\0"),
    *("=cmd|' /C calc'!A0", "1 2", "1,2", "\r", "\x1b[2J", "1" + "0" * 70_000, "\ufeff1"),
)


def _cells(text: bytes, rng: random.Random) -> bytes:
    """A table with cells, lines or line ends changed."""
    separator = b"\t" if b"\t" in text else b","
    lines = [line.split(separator) for line in text.splitlines()]
    for _ in range(rng.choice((1, 1, 3))):
        row = rng.choice(lines)
        what = rng.randrange(5)
        if what == 0 and row:
            del row[rng.randrange(len(row))]
        elif what == 1:
            row.append(rng.choice(_CELLS).encode())
        elif what == 2:
            lines.insert(rng.randrange(len(lines)), [rng.choice(_CELLS).encode()])
        elif row:
            row[rng.randrange(len(row))] = rng.choice(_CELLS).encode()
    end = rng.choice((b"\n", b"\n", b"\r\n", b"\r", b"\n\n"))
    other = rng.choice((separator, separator, separator, b";", b"|", b" "))
    return end.join(other.join(line) for line in lines) + rng.choice((end, b""))


def _csv(content: bytes, rng: random.Random, _: Path) -> bytes:
    text = _cells(content, rng)
    return rng.choice((text, text, text.decode().encode("utf-16"), gzip.compress(text)))


def _tsv_gz(content: bytes, rng: random.Random, _: Path) -> bytes:
    text = gzip.decompress(content)
    return rng.choice((
        lambda: gzip.compress(_cells(text, rng)),
        lambda: gzip.compress(damaged(text, rng)),
        lambda: gzip.compress(text) + gzip.compress(_cells(text, rng)),
        lambda: gzip.compress(text) + rng.randbytes(20),
        lambda: _GZIP_BOMB,
    ))()


_GZIP_BOMB = gzip.compress(b"a\tb\n" + b"0\t0\n" * (24 * 2**20))


def _table(rng: random.Random) -> pa.Table:
    """A table with one column of a kind, or of values, that are no numbers of one shape."""
    columns: dict[str, Any] = dict(zip("abcdef", X.T, strict=True))
    columns |= {"x": list(X), "y": Y, "w": W}
    name, n = rng.choice(list(columns)), len(Y)
    columns[name] = rng.choice((
        lambda: ["text"] * n,
        lambda: [None] * n,
        lambda: [1.0] * (n - 1) + [None],
        lambda: [[1.0]] * (n - 1) + [[1.0, 2.0]],
        lambda: [[]] * n,
        lambda: [[[1, 2], [3]]] * n,
        lambda: [{"bytes": b"x", "path": "/etc/passwd"}] * n,
        lambda: [b"\0"] * n,
        lambda: pa.array([0] * n, pa.timestamp("ns")),
        lambda: pa.array(["a"] * n).dictionary_encode(),
        lambda: pa.array([1] * n, pa.decimal128(5, 2)),
        lambda: pa.nulls(n),
        lambda: [float("nan")] * n,
        lambda: pa.array([2**64 - 1] * n, pa.uint64()),
    ))()
    order = rng.sample(list(columns), len(columns))
    table = pa.table({k: columns[k] for k in order})
    return table.slice(0, rng.choice((0, 1, n, n, n)))


def _parquet(_: bytes, rng: random.Random, __: Path) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(rng), sink, row_group_size=rng.choice((1, 7, 100)))
    return sink.getvalue()


def _arrow(content: bytes, rng: random.Random, _: Path) -> bytes:
    table, sink = _table(rng), io.BytesIO()
    new = pa.ipc.new_file if content.startswith(b"ARROW1") else pa.ipc.new_stream
    with new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rng.choice((1, 4, 100)))
    return sink.getvalue()


def _hdf5(_: bytes, rng: random.Random, canary: Path) -> bytes:
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.h5"
        with h5py.File(path, "w") as file:
            for name, array in _arrays(rng, canary).items():
                if array.dtype.kind in "UMm" or rng.random() < 0.1:
                    continue
                file.create_dataset(name, data=array)
            chosen = rng.choice("xyw")
            if rng.random() < 0.4 and chosen in file:
                del file[chosen]
                rng.choice((
                    lambda: file.create_dataset(chosen, (2**44,), "f8", chunks=(1024,)),
                    lambda: file.__setitem__(chosen, h5py.ExternalLink("/etc/passwd", "x")),
                    lambda: file.__setitem__(chosen, h5py.SoftLink(f"/{chosen}")),
                    lambda: file.create_group(chosen),
                    lambda: file.create_dataset(chosen, data=h5py.Empty("f8")),
                    lambda: file.create_dataset(chosen, (23,), h5py.vlen_dtype("f8")),
                    lambda: file.create_dataset(
                        chosen, (8,), "f8", external=[("/etc/passwd", 0, 64)]
                    ),
                ))()
        return path.read_bytes()


def _pt(content: bytes, rng: random.Random, canary: Path) -> bytes:
    return rng.choice((
        lambda: spoilt_pickle(content, rng, canary),
        lambda: spoilt_zip(content, rng),
        lambda: saved(_tensors(rng), legacy=rng.random() < 0.3),
        lambda: hostile(canary, rng),
    ))()


def _tensors(rng: random.Random) -> Any:
    values: dict[str, Any] = {k: torch.from_numpy(v) for k, v in (("x", X), ("y", Y), ("w", W))}
    name = rng.choice(list(values))
    values[name] = rng.choice((
        lambda: values[name][:5],
        lambda: values[name].to(torch.complex64),
        lambda: values[name].to_sparse(),
        lambda: torch.zeros(()),
        lambda: torch.zeros(1).expand(2**40),
        lambda: torch.zeros(23, device="meta"),
        lambda: [1, 2],
        lambda: "x",
        lambda: torch.quantize_per_tensor(torch.ones(23, 6), 0.1, 0, torch.qint8),
        lambda: values[name].to(torch.float8_e4m3fn),
    ))()
    return rng.choice((values, values, list(values.values()), values["x"], [values]))


_SPOILS: dict[str, tuple[Spoil, ...]] = {
    "npz": (
        replaced("d.npz", _npz, "arrays"),
        replaced("d.npz", lambda old, rng, _: spoilt_zip(old, rng), "members"),
    ),
    "npy": (replaced("npy/x.npy", _npy, "array"), replaced("npy/y.npy", _npy, "array")),
    "csv": (replaced("d.csv", _csv, "cells"),) * 2,
    "tsv_gz": (replaced("d.tsv.gz", _tsv_gz, "cells"),),
    "parquet": (replaced("d.parquet.brotli", _parquet, "columns"),),
    "parquet_lists": (replaced("lists.parquet", _parquet, "columns"),),
    "arrow": (replaced("d.arrow", _arrow, "columns"),),
    "arrow_stream": (replaced("s.arrow", _arrow, "columns"),),
    "hdf5": (replaced("d.h5", _hdf5, "arrays"),),
    "safetensors": (replaced("d.safetensors", spoilt_safetensors, "header"),),
    "pt": (replaced("d.pt", _pt, "tensors"),),
    "hf": (
        respelt_json("hf/state.json"),
        replaced("hf/data-00000-of-00002.arrow", _arrow, "columns"),
    ),
}


def _tokenizer() -> bytes:
    vocabulary = {chr(97 + i): i for i in range(6)} | {"[UNK]": 6}
    return json.dumps({
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": ""},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }).encode()


def _text() -> Format:
    def text(_: bytes, rng: random.Random, __: Path) -> bytes:
        return rng.choice((b"abc", b"zzz" * 20, "é漢\u202e".encode() * 9, b"abc" * 3000, b"\xff"))

    model = gpt(vocab_size=7, context=4, width=4, layers=1, heads=1)
    return Format(
        "text",
        (
            *("net.pt", "--model", "gpt", "--model-kwargs", "vocab_size=7"),
            *("--model-kwargs", "context=4", "--model-kwargs", "width=4"),
            *("--model-kwargs", "layers=1", "--model-kwargs", "heads=1", "--data", "text:t.txt"),
            *("--data-kwargs", "tokenizer=tokenizer.json", "--data-kwargs", "context=4"),
            *("--loss", "cross_entropy", *_LIMIT),
        ),
        _weights(model) | {"t.txt": b"abcdefabcfedabc" * 2, "tokenizer.json": _tokenizer()},
        (
            *(at_bytes("t.txt"), at_bytes("tokenizer.json"), respelt_json("tokenizer.json")),
            *(respelt_json("tokenizer.json"), gone_or_elsewhere("t.txt", "tokenizer.json")),
            replaced("t.txt", text, "text"),
        ),
    )


def _pictures(kind: str) -> Callable[[bytes, random.Random, Path], bytes]:
    def make(_: bytes, rng: random.Random, __: Path) -> bytes:
        from PIL import Image

        mode = rng.choice(("L", "RGB", "RGBA", "P", "1", "I", "F", "CMYK", "I;16"))
        side = rng.choice((1, 4, 5, 300, 12_000))
        sink = io.BytesIO()
        try:
            Image.new(mode, (side, 1 if side > 1000 else side)).save(
                sink, rng.choice((kind, "TIFF"))
            )
        except (OSError, KeyError):  # a mode that this kind has not
            return b"GIF89a" + rng.randbytes(40)
        return sink.getvalue()

    return make


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG")
    return sink.getvalue()


_PIXELS = np.arange(75, dtype="u1").reshape(5, 5, 3)


def _cnn() -> dict[str, bytes]:
    return _weights(cnn(in_channels=3, channels=[2], classes=2, norm="none"))


_CNN = (
    *("net.pt", "--model", "cnn", "--model-kwargs", "in_channels=3", "--model-kwargs"),
    *("channels=[2]", "--model-kwargs", "classes=2", "--model-kwargs", "norm=none"),
    *("--loss", "cross_entropy", *_LIMIT),
)


def _imagefolder() -> Format:
    names = ("p/cat/a.png", "p/cat/b.jpg", "p/dog/c.png")
    files = {name: _jpeg(_PIXELS) if name.endswith("jpg") else png(_PIXELS) for name in names}
    return Format(
        "imagefolder",
        (*_CNN, "--data", "imagefolder:p"),
        _cnn() | files,
        (
            *(at_bytes(*names), at_bytes(*names), gone_or_elsewhere(*names)),
            replaced("p/cat/a.png", _pictures("PNG"), "picture"),
        ),
    )


def _webdataset() -> Format:
    with tempfile.TemporaryDirectory() as folder:
        members: dict[str, Any] = {}
        for number in range(3):
            members |= {f"{number}.png": png(_PIXELS), f"{number}.cls": str(number % 2).encode()}
        tar(Path(folder) / "d.tar", members)
        content = read(Path(folder))
    return Format(
        "webdataset",
        (*_CNN, "--data", "webdataset:d.tar"),
        _cnn() | content,
        (
            *(at_bytes("d.tar"), at_bytes("d.tar"), gone_or_elsewhere("d.tar")),
            replaced("d.tar", lambda old, rng, _: spoilt_tar(old, rng), "members"),
            replaced("d.tar", lambda old, rng, _: spoilt_tar(old, rng), "members"),
        ),
    )
