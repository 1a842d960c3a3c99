"""Problem files: named, or found beside a checkpoint; senseless, or asking for code."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Format, Spoil, Tree, at_bytes, gone_or_elsewhere, replaced
from tests.fuzz.checkpoints import HOOKS, data, saved, weights
from tests.fuzz.mutating import NAMES, VALUES, respelt

_GOOD: dict[str, Any] = {
    "model": {"build": "mlp", "kwargs": {"sizes": [3, 4, 2], "activation": "tanh"}},
    "data": {
        "source": "npz:d.npz",
        "inputs": "x",
        "targets": "y",
        "batch_size": 4,
        "transforms": [{"name": "normalize", "mean": [0.5], "std": [2.0]}],
    },
    "loss": {"name": "cross_entropy", "kwargs": {"label_smoothing": 0.1}},
}
_WORDS = (
    *("mlp", "cnn", "gpt", "hf", "hf:AutoModel", "torchvision:resnet18", "timm:resnet18"),
    *(
        "npz:d.npz",
        "npz:",
        "npz:../d.npz",
        "csv:d.npz",
        "hdf5:d.npz",
        "torchvision:MNIST",
        ":",
        "::",
    ),
    *("pt:net.pt", "text:lab.toml", "imagefolder:.", "webdataset:{0..99999999}.tar", "hf:."),
    *("webdataset:*", "npy:.", "cross_entropy", "mse", "bce", "nll", "huber", "causal_lm", "mask"),
    *("masked_lm", "contrastive", "normalize", "resize", "tokenise", "chars", "sum", "mean", "w"),
    *("os.path:join", "os:system", "subprocess:Popen", "builtins:exec", "fuzz_canary:run"),
)


def formats() -> list[Format]:
    """A file named by --problem, one found beside the checkpoint, and key=value pairs."""
    files = {"net.pt": saved(weights()), "lab.toml": _toml(_GOOD)} | data()
    beside = {f"sub/{name}": content for name, content in files.items() if name != "lab.toml"}
    beside |= {"sub/net.toml": _toml(_GOOD), "sub/hooks.py": HOOKS}
    return [
        Format(
            "problem file",
            ("net.pt", "--problem", "lab.toml", "--memory", "64MiB"),
            files,
            (*[_respelt("lab.toml")] * 3, at_bytes("lab.toml"), gone_or_elsewhere("lab.toml")),
        ),
        Format(
            "found problem file",
            ("sub/net.pt", "--memory", "64MiB"),
            beside,
            (*[_respelt("sub/net.toml")] * 2, at_bytes("sub/net.toml"), *[_code] * 2),
        ),
    ]


def _respelt(name: str) -> Spoil:
    def make(_: bytes, rng: random.Random, __: Path) -> bytes:
        if rng.random() < 0.05:
            return rng.choice((
                *(b"a=" + b"[" * 100_000, b"[" * 100_000, b"a" + b".a" * 50_000 + b"=1"),
                *(b'[model]\nbuild="""' + b"x" * 2**20 + b'"""', b"\xff\xfe[\0", b"a={" * 9999),
                *(b"[data]\nbatch_size=" + b"9" * 9999, b"[data]\nbatch_size=0x" + b"f" * 9999),
            ))
        values = (*VALUES, *_WORDS, *_WORDS)
        return _toml(respelt(_GOOD, rng, values=values))

    return replaced(name, make, "TOML")


def _code(tree: Tree, rng: random.Random, _: Path) -> str:
    """Names code that lies there, in one way or another; without --trust it must not run."""
    hook = rng.choice((
        *("hooks.py:build", "./hooks.py:build", "../sub/hooks.py:build", "hooks:build"),
        *("fuzz_canary:run", "fuzz_canary.sub:run", "hooks.py:rows", "sub/hooks.py:build"),
        *(
            "torchvision:../hooks.py:build",
            "torchvision:fuzz_canary",
            "timm:fuzz_canary",
            "os:system",
        ),
    ))
    spec = respelt(_GOOD, rng) if rng.random() < 0.3 else json.loads(json.dumps(_GOOD))
    head = rng.choice((("model", "build"), ("data", "source"), ("loss", "name")))
    if isinstance(spec.get(head[0]), dict):
        spec[head[0]][head[1]] = hook
    tree["sub/net.toml"] = _toml(spec)
    return f"{head[0]} = {hook}"


def _toml(value: Any) -> bytes:
    """TOML of a tree; what TOML has not comes out as text that it refuses."""
    if not isinstance(value, dict):
        return repr(value).encode()
    lines = []
    for name, section in value.items():
        if isinstance(section, dict):
            lines.append(f"[{_key(name)}]")
            lines += [f"{_key(key)} = {_inline(item)}" for key, item in section.items()]
        else:
            lines.insert(0, f"{_key(name)} = {_inline(section)}")
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _key(name: object) -> str:
    return json.dumps(str(name))


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str) and value not in NAMES:
        return json.dumps(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else json.dumps(value)
