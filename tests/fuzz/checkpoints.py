"""Checkpoints of every format, and what can be wrong with each."""

from __future__ import annotations

import io
import json
import random
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from curvtool.problem.models import mlp
from curvtool.problem.save import save_checkpoint
from tests.fuzz.archives import members_of, spoilt_zip, zipped
from tests.fuzz.cases import Format, Spoil, Tree, at_bytes, gone_or_elsewhere, read, replaced
from tests.fuzz.mutating import damaged, respelt
from tests.fuzz.pickles import hostile, soup
from tests.problem.formats.folders import write_distributed, write_index

_DATA = ("--data", "npz:d.npz", "--loss", "cross_entropy", "--memory", "64MiB")
_MODEL = ("--model", "mlp", "--model-kwargs", "sizes=[3,4,2]")
_LEGACY_HEAD = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def formats() -> list[Format]:
    """All formats of checkpoints; those of transformers where it is installed."""
    made = [
        *_torch_saved(),
        _lightning(),
        _programs("torchscript", _scripted()),
        _programs("pt2", _exported()),
        _safetensors(),
        _sharded(safe=True),
        _sharded(safe=False),
        _distributed(),
    ]
    try:
        import transformers
    except ImportError:
        return made
    return [*made, _huggingface(transformers)]


def data() -> dict[str, bytes]:
    """Examples for a model of three inputs and two outputs."""
    draw, sink = np.random.default_rng(0), io.BytesIO()
    np.savez(sink, x=draw.normal(size=(6, 3)).astype("f4"), y=draw.integers(0, 2, 6))
    return {"d.npz": sink.getvalue()}


def weights() -> dict[str, Tensor]:
    """Of such a model."""
    torch.manual_seed(0)
    return {key: value.clone() for key, value in mlp(sizes=[3, 4, 2]).state_dict().items()}


def saved(content: object, *, legacy: bool = False) -> bytes:
    """What torch.save writes."""
    sink = io.BytesIO()
    torch.save(content, sink, _use_new_zipfile_serialization=not legacy)
    return sink.getvalue()


def with_pickle(archive: bytes, make: Callable[[bytes], bytes]) -> bytes:
    """A zip of torch.save whose pickle was made anew."""
    members = members_of(archive)
    name = next(n for n in members if n.endswith("data.pkl"))
    return zipped(members | {name: make(members[name])})


def spoilt_pickle(archive: bytes, rng: random.Random, canary: Path) -> bytes:
    """A zip of torch.save with a hostile, a senseless or a damaged pickle, and right checksums."""
    make: Callable[[bytes], bytes] = rng.choice((
        lambda old: hostile(canary, rng, inside=old[2:-1]),
        lambda _: hostile(canary, rng),
        lambda _: soup(rng),
        lambda old: damaged(old, rng),
    ))
    return with_pickle(archive, make)


def strange_tensors(old: bytes, rng: random.Random, canary: Path) -> bytes:
    """A sound file whose tensors are of other kinds, shapes and values than the model's."""
    del old, canary
    content: dict[Any, Any] = dict(weights())
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice(list(content))
        content[name] = rng.choice((
            lambda: torch.zeros(0),
            lambda: torch.zeros(()),
            lambda: torch.zeros(4, 3, dtype=rng.choice(_DTYPES)),
            lambda: torch.full((4, 3), rng.choice((float("nan"), float("inf"), 1e38, -1e-45))),
            lambda: torch.zeros(1).expand(4, 3),
            lambda: torch.zeros(1).expand(2**20, 2**20),
            lambda: torch.zeros(3, 4).T,
            lambda: torch.eye(4)[:, :3].to_sparse(),
            lambda: torch.quantize_per_tensor(torch.ones(4, 3), 0.1, 0, torch.qint8),
            lambda: torch.zeros(4, 3, device="meta"),
            lambda: torch.nn.Parameter(torch.zeros(4, 3)),
            lambda: rng.choice((None, 1, "x", [], {}, (torch.zeros(2),), {"a": torch.zeros(2)})),
        ))()
        if rng.random() < 0.2:
            content[rng.choice(("\x1b[31mred", "../x", "", 0, "a" * 10_000, "\u202e"))] = 1
    nest: Any = content
    for _ in range(rng.choice((0, 0, 1, 3))):
        nest = {rng.choice(("model", "ema", "optimizer", "state_dict", "curvtool", "x.y")): nest}
        if rng.random() < 0.3:
            nest["self"] = nest
    return saved(nest, legacy=rng.random() < 0.3)


_DTYPES = (
    *(torch.bool, torch.int8, torch.int64, torch.uint16, torch.float16, torch.bfloat16),
    *(torch.float64, torch.complex64, torch.float8_e4m3fn),
)


def _torch_saved() -> list[Format]:
    problem = {
        "model": {"build": "mlp", "kwargs": {"sizes": [3, 4, 2]}},
        "data": {"source": "npz:d.npz", "inputs": "x", "targets": "y"},
        "loss": {"name": "cross_entropy"},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pt"
        save_checkpoint(path, weights(), problem=problem)
        embedded = path.read_bytes()
    whole = saved({"model": weights(), "epoch": 3, "optimizer": {"m": torch.ones(3)}})
    legacy = saved(weights(), legacy=True)

    def spec(_: bytes, rng: random.Random, canary: Path) -> bytes:
        hooks = {"model": {"build": "hooks.py:build"}, "data": {"source": "hooks.py:rows"}}
        changed = respelt(problem if rng.random() < 0.8 else hooks, rng)
        own: Any = {"schema": "curvtool-checkpoint/1", "problem": changed}
        return saved({"curvtool": own if rng.random() < 0.9 else respelt(own, rng)} | weights())

    def in_legacy(old: bytes, rng: random.Random, canary: Path) -> bytes:
        head = _LEGACY_HEAD + b"\x80\x02M\xe9\x03.\x80\x02}." if rng.random() < 0.9 else b""
        return head + rng.choice((hostile(canary, rng), soup(rng), old)) + rng.choice((b"", old))

    return [
        Format(
            "torch zip",
            ("net.pt", *_MODEL, *_DATA),
            data() | {"net.pt": whole},
            (
                *(at_bytes("net.pt"), at_bytes("net.pt"), gone_or_elsewhere("net.pt")),
                replaced("net.pt", spoilt_pickle, "pickle"),
                replaced("net.pt", spoilt_pickle, "pickle"),
                replaced("net.pt", lambda old, rng, _: spoilt_zip(old, rng), "members"),
                replaced("net.pt", strange_tensors, "tensors"),
                replaced("net.pt", lambda _, rng, canary: hostile(canary, rng), "plain pickle"),
            ),
        ),
        Format(
            "torch legacy",
            ("net.pt", *_MODEL, *_DATA),
            data() | {"net.pt": legacy},
            (at_bytes("net.pt"), replaced("net.pt", in_legacy, "pickle")),
        ),
        Format(
            "embedded spec",
            ("sub/net.pt",),
            {"sub/net.pt": embedded, "sub/hooks.py": HOOKS}
            | {f"sub/{name}": content for name, content in data().items()},
            (at_bytes("sub/net.pt"), *[replaced("sub/net.pt", spec, "spec")] * 3),
        ),
    ]


# Run by nobody: it lies beside a checkpoint, and the command does not name it.
HOOKS = b"import fuzz_canary\n\n\ndef build():\n    pass\n\n\ndef rows():\n    return []\n"


def _lightning() -> Format:
    content = {
        "state_dict": weights(),
        "pytorch-lightning_version": "2.5",
        "hyper_parameters": Namespace(lr=0.1),
        "callbacks": {"a": torch.ones(2)},
    }
    return Format(
        "lightning",
        ("last.ckpt", *_MODEL, *_DATA),
        data() | {"last.ckpt": saved(content)},
        (
            at_bytes("last.ckpt"),
            replaced("last.ckpt", spoilt_pickle, "pickle"),
            replaced("last.ckpt", lambda old, rng, _: spoilt_zip(old, rng), "members"),
            replaced(
                "last.ckpt",
                lambda old, rng, canary: with_pickle(
                    old,
                    lambda pickled: (
                        b"\x80\x02}(X\x10\0\0\0hyper_parameters"
                        + hostile(canary, rng)[2:-1]
                        + pickled[2:-1].replace(b"}q", b"}(X\1\0\0\0zNuq", 1)[1:]
                        + b"."
                    ),
                ),
                "hyper-parameters",
            ),
        ),
    )


def _scripted() -> bytes:
    sink = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which is deprecated and still there
        trace: Any = torch.jit.trace
        torch.jit.save(trace(torch.nn.Linear(3, 2), torch.ones(1, 3)), sink)
    return sink.getvalue()


def _exported() -> bytes:
    names = ("archive_format", "models/model.json", "data/weights/0", "version", "byteorder")
    return zipped({f"a/{name}": b"pt2" for name in names})


def _programs(name: str, content: bytes) -> Format:
    return Format(
        name,
        ("net.pt", *_MODEL, *_DATA),
        data() | {"net.pt": content},
        (
            at_bytes("net.pt"),
            replaced("net.pt", lambda old, rng, _: spoilt_zip(old, rng), "members"),
        ),
    )


def spoilt_safetensors(content: bytes, rng: random.Random, _: Path | None = None) -> bytes:
    """A safetensors file whose header was respelt, its length right or not."""
    length = int.from_bytes(content[:8], "little")
    header = respelt(json.loads(content[8 : 8 + length]), rng)
    text = json.dumps(header).encode()
    if rng.random() < 0.1:
        text = b"[" * 100_000 if rng.random() < 0.5 else text[:1] + b'"a":' + text
    said = len(text) if rng.random() < 0.9 else rng.choice((0, 2**40, 2**64 - 1, len(text) + 5))
    return said.to_bytes(8, "little") + text + content[8 + length :]


def _files(make: Callable[[Path], object]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        return read(Path(folder))


def _safetensors() -> Format:
    files = _files(lambda folder: save_file(weights(), folder / "net.safetensors"))
    return Format(
        "safetensors",
        ("net.safetensors", *_MODEL, *_DATA),
        data() | files,
        (at_bytes(*files), replaced("net.safetensors", spoilt_safetensors, "header")),
    )


def respelt_json(name: str) -> Spoil:
    """Changes parts of a JSON file."""

    def make(old: bytes, rng: random.Random, _: Path) -> bytes:
        if rng.random() < 0.05:
            return rng.choice((b"[" * 200_000, b'{"a":' * 100_000, b"1" * 100_000, b'"\\ud800"'))
        return json.dumps(respelt(json.loads(old), rng)).encode()

    return replaced(name, make, "JSON")


def _sharded(*, safe: bool) -> Format:
    stem, suffix = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    first, second = (f"net/{stem}-0000{n}-of-00002.{suffix}" for n in (1, 2))

    def make(folder: Path) -> None:
        (folder / "net").mkdir()
        places: dict[str, str] = {}
        names = list(weights())
        for path, keys in ((first, names[:2]), (second, names[2:])):
            part = {key: weights()[key] for key in keys}
            save_file(part, folder / path) if safe else torch.save(part, folder / path)
            places |= dict.fromkeys(keys, Path(path).name)
        write_index(folder / "net" / f"{stem}.{suffix}.index.json", places)

    files, index = _files(make), f"net/{stem}.{suffix}.index.json"
    inner: Spoil = (
        replaced(first, spoilt_safetensors, "header")
        if safe
        else replaced(first, spoilt_pickle, "pickle")
    )
    return Format(
        f"sharded {suffix}",
        ("net", *_MODEL, *_DATA),
        data() | files,
        (at_bytes(*files), gone_or_elsewhere(*files), respelt_json(index), inner),
    )


def _distributed() -> Format:
    files = _files(lambda folder: write_distributed(folder / "dcp", {"model": weights(), "n": 3}))
    name = "dcp/.metadata"

    def metadata(old: bytes, rng: random.Random, canary: Path) -> bytes:
        return rng.choice((
            lambda: hostile(canary, rng),
            lambda: hostile(canary, rng, inside=old[2:-1]),
            lambda: soup(rng),
            lambda: _number_changed(old, rng),
        ))()

    def piece(old: bytes, rng: random.Random, canary: Path) -> bytes:
        other = rng.choice((
            lambda: hostile(canary, rng),
            lambda: saved(weights()["layers.0.bias"]),
            lambda: spoilt_pickle(saved(weights()["layers.0.bias"]), rng, canary),
        ))()
        return (other + old[len(other) :])[: max(len(old), len(other))]

    data_file = next(n for n in files if n.endswith(".distcp"))
    return Format(
        "distributed",
        ("dcp", *_MODEL, *_DATA),
        data() | files,
        (
            *(at_bytes(name), at_bytes(data_file), gone_or_elsewhere(name, data_file)),
            replaced(name, metadata, "pickle"),
            replaced(name, metadata, "pickle"),
            replaced(data_file, piece, "piece"),
        ),
    )


def _number_changed(pickled: bytes, rng: random.Random) -> bytes:
    """A pickle with one of its small numbers made another."""
    at = [i for i in range(len(pickled) - 1) if pickled[i : i + 1] == b"K"]
    where = rng.choice(at)
    new = rng.choice((
        b"K\0",
        b"K\xff",
        b"J\xff\xff\xff\xff",
        b"\x8a\6" + b"\xff" * 5 + b"\0",
        b"N",
    ))
    return pickled[:where] + new + pickled[where + 2 :]


def _huggingface(transformers: Any) -> Format:
    config = transformers.GPT2Config(vocab_size=7, n_positions=4, n_embd=4, n_layer=1, n_head=1)

    def make(folder: Path) -> None:
        transformers.GPT2LMHeadModel(config).save_pretrained(folder / "hf")
        sink = io.BytesIO()
        np.savez(sink, x=np.arange(12).reshape(3, 4) % 7, y=np.arange(12).reshape(3, 4) % 7)
        (folder / "t.npz").write_bytes(sink.getvalue())

    files = _files(make)
    named = ("hf/config.json", "hf/model.safetensors")

    def unsafe(tree: Tree, rng: random.Random, canary: Path) -> str:
        tree.pop("hf/model.safetensors")
        content = saved(weights())
        tree["hf/pytorch_model.bin"] = spoilt_pickle(content, rng, canary)
        return "pickle in hf/pytorch_model.bin"

    def code(tree: Tree, rng: random.Random, _: Path) -> str:
        changed = json.loads(files["hf/config.json"])
        changed |= {
            "auto_map": {"AutoModelForCausalLM": "modeling.Net", "AutoConfig": "modeling.Config"},
            "model_type": rng.choice(("gpt2", "own", "")),
            "architectures": [rng.choice(("GPT2LMHeadModel", "Net", "pipeline", "__import__"))],
            "_attn_implementation": rng.choice((
                "eager",
                "kernels-community/x",
                "flash_attention_2",
            )),
        }
        tree["hf/config.json"] = json.dumps(changed).encode()
        tree["hf/modeling.py"] = HOOKS
        return "code in hf/config.json"

    return Format(
        "hugging face",
        (
            *("hf", "--model", "hf", "--data", "npz:t.npz", "--loss", "causal_lm"),
            *("--memory", "64MiB"),
        ),
        files,
        (
            *(respelt_json("hf/config.json"), respelt_json("hf/config.json"), at_bytes(*named)),
            *(gone_or_elsewhere(*named), unsafe, code),
        ),
    )
