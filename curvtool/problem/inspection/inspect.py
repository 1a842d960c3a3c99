"""Look at a checkpoint: what it holds, and which model, inputs and loss that suggests."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint import Checkpoint, narrowed, read_checkpoint
from curvtool.problem.checkpoint.formats.members import read_json
from curvtool.problem.checkpoint.settings import plain_values
from curvtool.problem.inspection.builtin import builtin_guess
from curvtool.problem.inspection.guess import ModelGuess, Told
from curvtool.problem.inspection.layers import Ends, ends_of
from curvtool.problem.inspection.libraries import timm_guess, torchvision_guess
from curvtool.problem.resolve import embedded_source
from curvtool.problem.spec import HEADS

_CONFIG = "config.json"
# The end of a class's name in transformers -> the loss that it is trained with.
_LOSSES = {
    "ForMaskedLM": "masked_lm",
    "ForCausalLM": "causal_lm",
    "LMHeadModel": "causal_lm",
    "ForSequenceClassification": "cross_entropy",
    "ForImageClassification": "cross_entropy",
    "ForTokenClassification": "cross_entropy",
}


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a checkpoint tells.

    Attributes:
        path: the file or folder as the user named it.
        tensors: the weights, in the file's order.
        where: their place in it.
        others: places of other tensors.
        settings: plain values beside them.
        embedded: the sections that a spec inside the checkpoint gives whole.
        model: the guess.
        ends: what goes in and out.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    where: str
    others: tuple[str, ...]
    settings: Mapping[str, object]
    embedded: tuple[str, ...]
    model: ModelGuess
    ends: Ends

    @property
    def is_complete(self) -> bool:
        """Whether the checkpoint names its model, data and loss itself."""
        return set(self.embedded) == set(HEADS)


def inspect_checkpoint(path: Path) -> Inspection:
    """Read a checkpoint and say what it tells; nothing of it is run.

    Args:
        path: a file or a folder.

    Returns:
        What was found. Costs the reading of names and shapes, and some seconds where an
        architecture of torchvision or timm has to be compared.

    Raises:
        InputError: for what is no checkpoint.
    """
    checkpoint = narrowed(read_checkpoint(path), key=None, average=False)
    settings = {**checkpoint.settings, **_config_beside(path)}
    tensors = checkpoint.tensors
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of builders whose models are thrown away again
        model = _model(path, tensors, settings)
    return Inspection(
        path=path,
        tensors=tensors,
        where=checkpoint.where,
        others=tuple(c.where for c in checkpoint.candidates[1:]),
        settings=settings,
        embedded=_embedded(checkpoint),
        model=model,
        ends=ends_of(tensors),
    )


def _embedded(checkpoint: Checkpoint) -> tuple[str, ...]:
    if checkpoint.problem is None:
        return ()
    source = embedded_source(checkpoint.problem, checkpoint.path, trust=False)
    return tuple(name for name, head in HEADS.items() if head in source.sections.get(name, {}))


def _model(path: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, object]) -> ModelGuess:
    told = Told(settings)
    hugging = _transformers(path, settings)
    for guess in (hugging, builtin_guess(tensors, told), timm_guess(tensors, told)):
        if guess is not None:
            return guess
    return torchvision_guess(tensors, told) or ModelGuess()


def _config_beside(path: Path) -> Mapping[str, object]:
    """The plain values of a config.json in a folder, or beside a file of transformers' name."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not path.name.startswith(("model.", "model-", "pytorch_model")):
        return {}
    try:
        found = read_json(folder / _CONFIG) if (folder / _CONFIG).is_file() else {}
    except InputError:
        return {}  # a config is not what was asked about; loading says what is wrong with it
    return plain_values(found)


def _transformers(path: Path, settings: Mapping[str, object]) -> ModelGuess | None:
    kind = settings.get("model_type")
    if not isinstance(kind, str) or not _config_beside(path):
        return None
    classes = settings.get("architectures")
    name = classes[0] if isinstance(classes, list) and classes else None
    if not isinstance(name, str):
        return ModelGuess(
            "hf:AutoModel",
            why=(f"{_CONFIG} is of transformers ({kind}), and names no class.",),
            todo={"build": "the class, e.g. hf:AutoModelForMaskedLM"},
        )
    loss = next((loss for end, loss in _LOSSES.items() if name.endswith(end)), "hf")
    return ModelGuess(
        "hf", why=(f"{_CONFIG} is of transformers, and names its class: {name}.",), loss=loss
    )
