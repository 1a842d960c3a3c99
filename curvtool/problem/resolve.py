"""Which source decides each part of the problem, and whose Python code may run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curvtool.errors import InputError
from curvtool.problem.hooks import refuse_untrusted
from curvtool.problem.spec import (
    HEADS,
    DataSpec,
    LossSpec,
    ModelSpec,
    Origin,
    ProblemSpec,
    SpecSource,
    parse_spec,
    read_toml,
)

_EXAMPLES = {
    "model": ("file.py:build", "mlp, cnn, gpt, torchvision:NAME, timm:NAME, hf, file.py:build"),
    "data": ("file.py:dataset", "npz:FILE, csv:FILE, torchvision:NAME, file.py:dataset"),
    "loss": (
        "cross_entropy",
        "cross_entropy, mse, bce, nll, huber, causal_lm, masked_lm, file.py:loss",
    ),
}

_KEYS_OF_DATA = ("inputs", "targets", "weights", "transforms")


def command_line_source(
    *,
    heads: Mapping[str, str | None],
    kwargs: Mapping[str, Mapping[str, object]],
    working_directory: Path,
    output: str | None = None,
) -> SpecSource:
    """What `--model`, `--data`, `--loss`, `--output` and their `--...-kwargs` say.

    `inputs`, `targets`, `weights` and `transforms` among the data's key=value pairs are keys of
    [data], not arguments, since the command line has no other place for them.

    Args:
        heads: for each section, the option's value or None.
        kwargs: for each section, the parsed pairs.
        working_directory: what relative paths are relative to.
        output: the model's output that the loss reads.

    Returns:
        The source that outranks all others.
    """
    content: dict[str, dict[str, object]] = {}
    for name, head in HEADS.items():
        section: dict[str, object] = {}
        given = dict(kwargs.get(name, {}))
        if heads.get(name) is not None:
            section[head] = heads[name]
        if name == "model" and output is not None:
            section["output"] = output
        if name == "data":
            section |= {key: given.pop(key) for key in _KEYS_OF_DATA if key in given}
        if given:
            section["kwargs"] = given
        if section:
            content[name] = section
    return parse_spec(content, Origin("the command line", working_directory, trusted=True))


def problem_file_source(path: Path, working_directory: Path) -> SpecSource:
    """What the file of `--problem` says; its hooks may run, since the user named the file."""
    place = working_directory / path
    return read_toml(place, Origin(f"--problem {path}", place.parent, trusted=True))


def embedded_source(content: object, checkpoint: Path, *, trust: bool) -> SpecSource:
    """What the spec inside the checkpoint says; its paths are relative to the checkpoint."""
    label = f"the spec inside {checkpoint.name}"
    return parse_spec(content, Origin(label, checkpoint.parent, trusted=trust))


def found_sources(checkpoint: Path, working_directory: Path, *, trust: bool) -> list[SpecSource]:
    """Problem files found without being named, the most particular first.

    Args:
        checkpoint: the checkpoint, beside which `<stem>.toml` and `curvtool.toml` are sought; in
            a folder that is one, `curvtool.toml` is sought first.
        working_directory: where `curvtool.toml` is sought last.
        trust: whether their hooks may run even where they lie outside `working_directory`.

    Returns:
        At most four sources, each file once.
    """
    home = working_directory.resolve()
    sources: list[SpecSource] = []
    seen: set[Path] = set()
    for path in (
        checkpoint / "curvtool.toml",
        checkpoint.with_suffix(".toml"),
        checkpoint.parent / "curvtool.toml",
        working_directory / "curvtool.toml",
    ):
        place = path.parent.resolve() / path.name
        if place in seen or place == checkpoint.resolve() or not place.is_file():
            continue
        seen.add(place)
        trusted = trust or place.parent == home
        sources.append(read_toml(place, Origin(_shown(place, home), place.parent, trusted)))
    return sources


def resolve(sources: Sequence[SpecSource], *, checkpoint: Path) -> ProblemSpec:
    """Make one problem of what several sources say.

    For each section the sources are asked in turn. One that names the section's head (`build`,
    `source`, `name`) ends the search and replaces the section whole; those before it that give
    only other keys lay them over it, `kwargs` key by key.

    Args:
        sources: the highest in rank first.
        checkpoint: for the message.

    Returns:
        The whole problem.

    Raises:
        InputError: naming all missing parts at once, or for a Python hook of a source whose
            code may not run.
    """
    parts = {name: _merged(name, sources) for name in HEADS}
    missing = [name for name, part in parts.items() if part is None]
    if missing:
        raise InputError(_missing_sentence(missing, sources, checkpoint))
    model, data, loss = (part for part in parts.values() if part is not None)
    inputs = data.section.get("inputs")
    if inputs is not None and not isinstance(inputs, list | tuple):
        inputs = (inputs,)
    return ProblemSpec(
        ModelSpec(model.section["build"], model.origin, model.kwargs, _text(model, "output")),
        DataSpec(
            source=data.section["source"],
            origin=data.origin,
            inputs=None if inputs is None else tuple(map(str, inputs)),
            targets=_named(data.section.get("targets")),
            weights=_named(data.section.get("weights")),
            transforms=tuple(data.section.get("transforms", ())),
            batch_size=data.section.get("batch_size"),
            kwargs=data.kwargs,
            kwarg_bases=data.bases,
        ),
        LossSpec(loss.section["name"], loss.origin, loss.kwargs),
    )


def _named(part: object) -> str | None:
    return None if part is None else str(part)


@dataclass(frozen=True)
class _Part:
    """One section as merged: its head's origin, trusted only if all who gave arguments are."""

    section: dict[str, Any]
    origin: Origin
    kwargs: dict[str, object]
    bases: dict[str, Path]


def _text(part: _Part, key: str) -> str | None:
    """A name, or a place among the outputs."""
    value = part.section.get(key)
    return None if value is None else str(value)


def _merged(name: str, sources: Sequence[SpecSource]) -> _Part | None:
    """The section laid together, or None where nobody names its head."""
    asked: list[SpecSource] = []
    for source in sources:
        asked.append(source)
        if HEADS[name] in source.sections.get(name, {}):
            break
    else:
        return None
    head, origin = str(source.sections[name][HEADS[name]]), source.origin
    section: dict[str, Any] = {}
    kwargs: dict[str, object] = {}
    bases: dict[str, Path] = {}
    for source in reversed(asked):
        given = dict(source.sections.get(name, {}))
        arguments = given.pop("kwargs", {})
        assert isinstance(arguments, Mapping)
        if HEADS[name] in given:
            refuse_untrusted(name, head, source.origin)
        elif arguments:
            refuse_untrusted(name, head, source.origin, does="gives arguments to")
            origin = replace(origin, trusted=origin.trusted and source.origin.trusted)
        section |= given
        kwargs |= arguments
        bases |= dict.fromkeys(arguments, source.origin.base)
    return _Part(section, origin, kwargs, bases)


def _missing_sentence(missing: list[str], sources: Sequence[SpecSource], checkpoint: Path) -> str:
    found = ", ".join(
        f"[{name}] in {source.origin.label}" for source in sources for name in source.sections
    )
    lines = [
        f"{checkpoint.name}: expected a model, data and a loss to go with the weights; missing: "
        f"{', '.join(missing)}. Found: {found or 'no part of a problem anywhere'}.",
        "Add on the command line: "
        + " ".join(f"--{name} {_EXAMPLES[name][0]}" for name in missing),
        f"or in {checkpoint.with_suffix('.toml').name} beside the checkpoint, or a file given by "
        f"--problem:",
    ]
    for name in missing:
        example, choices = _EXAMPLES[name]
        lines.append(f"  [{name}]\n  {HEADS[name]} = {example!r}".replace("'", '"'))
        lines[-1] += f"    # {choices}"
    return "\n".join(lines)


def _shown(place: Path, home: Path) -> str:
    return str(place.relative_to(home)) if place.is_relative_to(home) else str(place)
