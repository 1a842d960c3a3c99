"""Models of transformers from a `config.json` alone: no download, no code from the folder.

`trust_remote_code` is never set but to False, since left out it asks on the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from curvtool.errors import InputError
from curvtool.problem.builders.room import MOST_LAYERS, bytes_of, too_deep
from curvtool.problem.checkpoint.formats.members import read_json
from curvtool.problem.libraries import library
from curvtool.problem.spec import ModelSpec
from curvtool.problem.wording import did_you_mean, first_line, kind_of

_CONFIG = "config.json"
_BACKBONE = "use_pretrained_backbone"  # of models around a timm network
# A parameter takes a byte or more of the file; a model that shares weights has fewer than named.
_SPARE_PARAMETERS = 10_000_000


def huggingface(spec: ModelSpec, name: str, checkpoint: Path | None) -> Callable[[], object]:
    """Find the class and the config of a model of transformers.

    Args:
        spec: the model; `config` of its kwargs names a folder or file with the config where it is
            not beside the weights, the others replace values of the config.
        name: a class of transformers, `AutoModelFor...` or another; empty for the one that the
            config names.
        checkpoint: the weights, or their folder.

    Returns:
        A function of no arguments that builds it, with eager attention, the only one that has
        second derivatives.

    Raises:
        InputError: for a config that is absent or not plain, a class that is not there, or where
            the library is absent.
    """
    path = _config_path(spec, checkpoint)
    values = read_json(path)
    _require_plain(values, path)
    has_own_code = "auto_map" in values
    values = _without_code(values)
    transformers = library("transformers", "hf", f"{spec.origin.label}: {spec.build}")
    config = _config(values, path, spec, transformers, has_own_code=has_own_code)
    kind = _class(name or _named_by(values, path), path, spec, transformers)
    room = None if checkpoint is None else bytes_of(checkpoint)

    def build() -> object:
        def made() -> Any:
            if issubclass(kind, transformers.PreTrainedModel):
                return kind._from_config(config, attn_implementation="eager")
            return kind.from_config(config, attn_implementation="eager", trust_remote_code=False)

        if room is not None:
            with torch.device("meta"):  # takes no memory, whatever the config says
                count = sum(p.numel() for p in made().parameters())
            if count > 2 * room + _SPARE_PARAMETERS:
                raise InputError(
                    f"{path}: expected the config of the model whose weights these are; it "
                    f"describes {count:,} parameters, and the weights have {room:,} bytes. Get "
                    f"config and weights of the same model."
                )
        return made()

    return build


def _is_plain_key(key: object) -> bool:
    """Whether a key of a config names no code: kernels and classes may come from a hub."""
    return isinstance(key, str) and not (
        key.endswith(("_implementation", "_implementation_internal"))
        or key in {"auto_map", "use_kernels", "custom_pipelines"}
    )


def _without_code(value: object) -> Any:
    """A value of a config, without what would fetch weights or code while the model is built."""
    if isinstance(value, dict):
        inner = {k: _without_code(v) for k, v in value.items() if _is_plain_key(k)}
        return {k: False if k == _BACKBONE else v for k, v in inner.items()}
    return [_without_code(item) for item in value] if isinstance(value, list) else value


def _config_path(spec: ModelSpec, checkpoint: Path | None) -> Path:
    named = spec.kwargs.get("config")
    if named is not None and not isinstance(named, str):
        raise InputError(
            f"{spec.origin.label}: expected config= of {spec.build} to be a path; got "
            f"{kind_of(named)}. Name the folder or file of the model's {_CONFIG}."
        )
    if named is not None:
        path = spec.origin.base / named
    elif checkpoint is not None:
        path = checkpoint if checkpoint.is_dir() else checkpoint.parent
    else:
        path = spec.origin.base
    path = path / _CONFIG if path.is_dir() else path
    if not path.is_file():
        raise InputError(
            f"{spec.origin.label}: expected the model's {_CONFIG} for {spec.build}; there is no "
            f"{path}. Give the folder as the checkpoint, or --model-kwargs config=FOLDER."
        )
    return path


def _require_plain(values: Mapping[str, object], path: Path) -> None:
    if "quantization_config" in values:
        raise InputError(
            f"{path}: expected a model with plain weights; its config says that they are "
            f"quantised (quantization_config). Take the model from before it was quantised: a "
            f"quantised weight has no derivative."
        )
    if "model_type" not in values and isinstance(values.get("architecture"), str):
        raise InputError(
            f"{path}: expected a config of transformers; it is one of timm. Use --model "
            f"timm:{values['architecture']} with --model-kwargs num_classes=N."
        )
    deep = too_deep(values)
    if deep is not None:
        raise InputError(
            f"{path}: expected at most {MOST_LAYERS:,} layers; it says {deep[0]} = {deep[1]}. Get "
            f"the config again from where it comes from."
        )


def _config(
    values: Mapping[str, object],
    path: Path,
    spec: ModelSpec,
    transformers: Any,
    *,
    has_own_code: bool,
) -> Any:
    kind = values.get("model_type")
    known = transformers.CONFIG_MAPPING
    if not isinstance(kind, str) or kind not in known:
        own = " It names code of its own (auto_map), which is never run." if has_own_code else ""
        raise InputError(
            f"{path}: expected a model_type that transformers {transformers.__version__} has; got "
            f"{kind!r}.{did_you_mean(str(kind), known.keys())}{own} Update transformers, or build "
            f"the model yourself: --model file.py:build."
        )
    config = _read(known[kind], values, path)
    changes = {key: value for key, value in spec.kwargs.items() if key != "config"}
    for key in changes:
        if not (_is_plain_key(key) and key != _BACKBONE and hasattr(config, key)):
            raise InputError(
                f"{spec.origin.label}: expected arguments that the config of {kind} has; got "
                f"{key!r}.{did_you_mean(key, config.to_dict())} Correct --model-kwargs, or kwargs "
                f"under [model]."
            )
    return _read(known[kind], {**values, **changes}, path) if changes else config


def _read(kind: Any, values: Mapping[str, object], path: Path) -> Any:
    try:
        return kind.from_dict(dict(values))
    except Exception as error:  # transformers and what it checks values with have their own
        raise InputError(
            f"{path}: expected a config that transformers reads; it says: "
            f"{first_line(error).rstrip('.')}. Get the config again from where it comes from, or "
            f"correct --model-kwargs."
        ) from error


def _named_by(values: Mapping[str, object], path: Path) -> str:
    named = values.get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise InputError(
            f"{path}: expected the class of the model under architectures; got {named!r:.80}. Name "
            f"it: --model hf:AutoModelForMaskedLM, or another class of transformers."
        )
    return named[0]


def _class(name: str, path: Path, spec: ModelSpec, transformers: Any) -> Any:
    names = [n for n in dir(transformers) if "Model" in n or "For" in n]
    kind = getattr(transformers, name, None) if name in names else None
    automatic = name.startswith("AutoModel")
    ours = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not (ours or (automatic and hasattr(kind, "from_config"))):
        raise InputError(
            f"{spec.origin.label}: expected a model of transformers for {path}; got {name!r}."
            f"{did_you_mean(name, names)} Name it: --model hf:AutoModelForMaskedLM, or another "
            f"class of transformers."
        )
    return kind
