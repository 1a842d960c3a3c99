"""The problem file that says what a checkpoint tells, with TODO where it tells nothing.

Names and values come from a file that somebody else made: in comments they are kept to one line of
printable characters, in values they are escaped as TOML wants it.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path

from curvtool.problem.inspection.guess import TODO
from curvtool.problem.inspection.inspect import Inspection
from curvtool.problem.wording import shape_of

_MOST_TENSORS = 40
_MOST_SETTINGS = 40
_WIDEST = 96


def problem_file(found: Inspection, *, folder: Path) -> tuple[str, list[str]]:
    """Write the problem file.

    Args:
        found: what the checkpoint tells.
        folder: where the file will be; the checkpoint is named as seen from there.

    Returns:
        TOML, and what is left to do, a phrase for each TODO.
    """
    todo: list[str] = []
    lines = [*_head(found, folder), *_contents(found)]
    for name, section in (("model", _model), ("data", _data), ("loss", _loss)):
        if name in found.embedded:
            lines += ["", f"# [{name}] is in the checkpoint itself."]
        else:
            lines += ["", f"[{name}]", *section(found, todo)]
    return "\n".join(lines) + "\n", todo


def _head(found: Inspection, folder: Path) -> list[str]:
    name = _plain(_as_seen_from(folder, found.path))
    return [
        f"# What {name} tells of its own problem, by `curvtool init`.",
        f"# Fill in what says {TODO}, check the rest, and run: curvtool check {name}",
    ]


def _contents(found: Inspection) -> list[str]:
    count = sum(t.numel() for t in found.tensors.values())
    lines = ["#", f"# {len(found.tensors)} tensors of {count:,} numbers, at {_plain(found.where)}:"]
    names = list(found.tensors)
    # Both ends of the model are in it.
    cut = len(names) > _MOST_TENSORS
    shown = names[: _MOST_TENSORS // 2] if cut else names
    lines += [_row(f"{n}  {shape_of(found.tensors[n])}") for n in shown]
    if cut:
        rest = names[-_MOST_TENSORS // 2 :]
        lines.append(f"#   ... {len(names) - _MOST_TENSORS} more ...")
        lines += [_row(f"{n}  {shape_of(found.tensors[n])}") for n in rest]
    if found.others:
        lines += _prose(f"Other tensors are at {', '.join(found.others)} (--key).")
    if found.settings:
        lines += ["#", "# Values beside the weights, which may be your model's arguments:"]
        settings = list(found.settings.items())
        lines += [_row(f"{k} = {v!r}") for k, v in settings[:_MOST_SETTINGS]]
        if len(settings) > _MOST_SETTINGS:
            lines.append(f"#   ... {len(settings) - _MOST_SETTINGS} more ...")
    return lines


def _model(found: Inspection, todo: list[str]) -> list[str]:
    guess = found.model
    lines = [line for sentence in guess.why for line in _prose(sentence)]
    if guess.build == TODO:
        todo.append("the model")
        lines += [
            *_todo(
                "the function that makes your model: file.py:build, package.module:build, "
                "torchvision:NAME, timm:NAME, hf, mlp, cnn or gpt; its arguments go into kwargs."
            ),
            f"build = {_value(TODO)}",
            "# kwargs = { width = 64 }",
        ]
        return lines
    for argument, sentence in guess.todo.items():
        todo.append(f"{argument} of the model")
        lines += _todo(f"{argument}: {sentence}.")
    lines.append(f"build = {_value(guess.build)}")
    if guess.kwargs:
        lines.append(f"kwargs = {_value(guess.kwargs)}")
    if guess.output is not None:
        lines += [
            "# It has several outputs; the loss reads this one.",
            f"output = {_value(guess.output)}",
        ]
    return lines


def _data(found: Inspection, todo: list[str]) -> list[str]:
    todo.append("the data")
    lines = [
        *_todo("your dataset: npz:FILE, torchvision:NAME, file.py:dataset or another format."),
        "# Paths are relative to this file.",
    ]
    if found.ends.inputs:
        lines += _prose(f"The first layer seems to take {found.ends.inputs}.")
    lines.append(f"source = {_value(TODO)}")
    if found.model.loss in {"causal_lm", "masked_lm"}:
        lines.append("# Batches are dicts with input_ids, attention_mask and, if masked, labels.")
    return [
        *lines,
        '# inputs = "x"       # names of the parts, where they have names',
        '# targets = "y"',
        "# batch_size = 256",
    ]


def _loss(found: Inspection, todo: list[str]) -> list[str]:
    outputs, loss = found.ends.outputs, found.model.loss
    if found.model.build == "gpt":
        loss = None
    lines = []
    if outputs is not None:
        lines += _prose(f"The last layer seems to give {outputs} numbers ({found.ends.last}).")
    if loss is not None:
        return [
            *lines,
            "# What models of this kind are trained with; change it if yours was not.",
            f"name = {_value(loss)}",
        ]
    todo.append("the loss")
    return [
        *lines,
        *_todo(f"the loss of your training; {_choice(found)}."),
        "# All: cross_entropy, nll, bce (with logits), mse, huber, causal_lm, masked_lm,",
        "# contrastive, hf (the model's own), file.py:loss.",
        f"name = {_value(TODO)}",
    ]


def _choice(found: Inspection) -> str:
    if found.ends.tokens is not None and found.ends.tokens == found.ends.outputs:
        return "cross_entropy if targets are the next tokens, causal_lm if they are the tokens"
    if found.ends.outputs == 1:
        return "mse for a number, bce for two classes"
    return "cross_entropy for classes, mse for numbers"


def _as_seen_from(folder: Path, path: Path) -> str:
    place = path.resolve()
    base = folder.resolve()
    return str(place.relative_to(base)) if place.is_relative_to(base) else str(path)


def _todo(sentence: str) -> list[str]:
    return _prose(f"{TODO} {sentence}")


def _prose(text: str) -> list[str]:
    """Comments of as many lines as it takes."""
    lines = textwrap.wrap(_plain(text), _WIDEST - 2, break_on_hyphens=False)
    return [f"# {line}" for line in lines]


def _row(text: str) -> str:
    """A comment of one line, cut off where it is longer."""
    line = "#   " + _plain(text)
    return line if len(line) <= _WIDEST else line[: _WIDEST - 3] + "..."


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _value(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    # JSON's escapes are TOML's, but for pairs of surrogates and for DEL.
    text = json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return text.encode("utf-8", "replace").decode()


def _key(key: str) -> str:
    return key if key.isascii() and key.isidentifier() else _value(key)
