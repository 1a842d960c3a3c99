"""What a problem is: model, data and loss as written down, and where each was written.

A `SpecSource` is what one place says (it may say only a part); `resolve.py` makes one
`ProblemSpec` out of several.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from curvtool.errors import InputError
from curvtool.problem.wording import did_you_mean, kind_of

Section = Mapping[str, object]
_MOST_BYTES = 2**20
_MOST_PARTS = 100  # of a dotted key
HEADS = {"model": "build", "data": "source", "loss": "name"}
KEYS: dict[str, dict[str, str]] = {
    "model": {"build": "a string", "kwargs": "a table", "output": "a name or a place from 0"},
    "data": {
        "source": "a string",
        "inputs": "a name or number, or a list of them",
        "targets": "a name or number",
        "weights": "a name or number",
        "transforms": "a list of tables",
        "batch_size": "a whole number of at least 1",
        "kwargs": "a table",
    },
    "loss": {"name": "a string", "kwargs": "a table"},
}


@dataclass(frozen=True)
class Origin:
    """The place that said something.

    Attributes:
        label: as a sentence names it: "the command line", "--problem lab.toml".
        base: folder that relative paths are relative to.
        trusted: whether Python hooks named here may be run.
    """

    label: str
    base: Path
    trusted: bool


@dataclass(frozen=True)
class SpecSource:
    """What one place says of the problem: checked sections, any of which may be absent."""

    origin: Origin
    sections: Mapping[str, Section]


@dataclass(frozen=True)
class ModelSpec:
    """Which function builds the module, with which arguments, and which output the loss reads."""

    build: str
    origin: Origin
    kwargs: Section = field(default_factory=dict)
    output: str | None = None


@dataclass(frozen=True)
class DataSpec:
    """Where the examples come from.

    Attributes:
        source: format and place, e.g. "npz:digits.npz".
        origin: the place that named `source`.
        inputs: names of the model's inputs, for data whose parts have names.
        targets: name of the target, likewise.
        weights: name of what each example, or each of its predictions, counts in the mean.
        transforms: preprocessing in its order, as written: names, or tables with a name.
        batch_size: examples a batch, where the spec gives it.
        kwargs: arguments of the format or hook.
        kwarg_bases: the folder that each of `kwargs` is relative to, where it is a path.
    """

    source: str
    origin: Origin
    inputs: tuple[str, ...] | None = None
    targets: str | None = None
    weights: str | None = None
    transforms: tuple[object, ...] = ()
    batch_size: int | None = None
    kwargs: Section = field(default_factory=dict)
    kwarg_bases: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class LossSpec:
    """Which loss, and with which arguments."""

    name: str
    origin: Origin
    kwargs: Section = field(default_factory=dict)


@dataclass(frozen=True)
class ProblemSpec:
    """The whole problem."""

    model: ModelSpec
    data: DataSpec
    loss: LossSpec

    def as_dict(self) -> dict[str, dict[str, object]]:
        """Sections in plain JSON types, each with `from`: the place that named its head."""
        data: dict[str, object] = {"source": self.data.source}
        if self.data.inputs is not None:
            data["inputs"] = list(self.data.inputs)
        if self.data.targets is not None:
            data["targets"] = self.data.targets
        if self.data.weights is not None:
            data["weights"] = self.data.weights
        if self.data.transforms:
            data["transforms"] = list(self.data.transforms)
        if self.data.batch_size is not None:
            data["batch_size"] = self.data.batch_size
        sections: dict[str, dict[str, object]] = {
            "model": {"build": self.model.build},
            "data": data,
            "loss": {"name": self.loss.name},
        }
        if self.model.output is not None:
            sections["model"]["output"] = self.model.output
        for name, part in (("model", self.model), ("data", self.data), ("loss", self.loss)):
            if part.kwargs:
                sections[name]["kwargs"] = dict(part.kwargs)
            sections[name]["from"] = part.origin.label
        return sections


def parse_spec(content: object, origin: Origin) -> SpecSource:
    """Check sections, keys and types of what one place says.

    Args:
        content: a table of the sections `model`, `data`, `loss`, as TOML or JSON gives it.
        origin: the place, for messages, relative paths and trust.

    Returns:
        The sections as given, without keys whose value is None.

    Raises:
        InputError: for an unknown section or key (with the nearest known one), or a wrong type.
    """
    if not isinstance(content, Mapping):
        raise InputError(
            f"{origin.label}: expected a table with the sections [model], [data], [loss]; got "
            f"{kind_of(content)}."
        )
    sections: dict[str, Section] = {}
    for name, section in content.items():
        if name not in KEYS:
            raise InputError(
                f"{origin.label}: expected the sections [model], [data] and [loss]; got "
                f"[{name}].{did_you_mean(str(name), KEYS)} Rename or remove it."
            )
        if not isinstance(section, Mapping):
            raise InputError(
                f"{origin.label}: expected [{name}] to be a table with the keys "
                f"{', '.join(KEYS[name])}; got {kind_of(section)}. Write [{name}] on a line of "
                f"its own and {HEADS[name]} = ... under it."
            )
        sections[name] = _checked_section(name, section, origin)
    return SpecSource(origin, sections)


def read_toml(path: Path, origin: Origin) -> SpecSource:
    """Read a problem file.

    Args:
        path: a TOML file.
        origin: the place, as in `parse_spec`.

    Returns:
        Its checked sections.

    Raises:
        InputError: for a file that cannot be read, is no TOML, or says what no problem has.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode().replace("\r\n", "\n")
        _require_small(text)
        content = tomllib.loads(text)
    except FileNotFoundError as error:
        raise InputError(
            f"{origin.label}: expected a problem file; there is no {path}. Check the path, or "
            f"create the file with [model], [data] and [loss]."
        ) from error
    except OSError as error:
        raise InputError(
            f"{origin.label}: expected a readable problem file; {path} cannot be read "
            f"({error.strerror}). Check the path and its permissions."
        ) from error
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise InputError(
            f"{origin.label}: expected TOML; {path.name} is not: {error}. Correct the file at "
            f"that place."
        ) from error
    return parse_spec(content, origin)


def _require_small(text: str) -> None:
    """Refuse what no one writes, and what costs `tomllib` memory without bound.

    A key of n parts costs it n^2 / 2 references: 100 kB of dots take 10 GB.

    Raises:
        ValueError: for such text.
    """
    if len(text) > _MOST_BYTES - 4:
        raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
    if any(piece.count(".") > _MOST_PARTS for piece in re.split(r"[=,{}\[\]\n]", text)):
        raise ValueError(f"it has a key of more than {_MOST_PARTS} parts")


def _checked_section(name: str, section: Mapping[object, object], origin: Origin) -> Section:
    checked: dict[str, object] = {}
    for key, value in section.items():
        if not isinstance(key, str) or key not in KEYS[name]:
            raise InputError(
                f"{origin.label}: expected the keys {', '.join(KEYS[name])} in [{name}]; got "
                f'"{key}".{did_you_mean(str(key), KEYS[name])} Arguments of your own go into '
                f"kwargs = {{ ... }}."
            )
        if value is None:
            continue
        expected = KEYS[name][key]
        if not _CHECKS[expected](value):
            raise InputError(
                f"{origin.label}: expected {key} in [{name}] to be {expected}; got {value!r}. "
                f"Correct that line."
            )
        checked[key] = value
    return checked


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_part(value: object) -> bool:
    """Parts of data may be numbered: the columns of a table."""
    return _is_name(value) or (isinstance(value, int) and not isinstance(value, bool))


def _is_parts(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(_is_part(item) for item in value)
    return _is_part(value)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_output(value: object) -> bool:
    return _is_name(value) or (
        isinstance(value, int) and not isinstance(value, bool) and value >= 0
    )


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


_CHECKS = {
    "a string": _is_name,
    "a name or number": _is_part,
    "a name or number, or a list of them": _is_parts,
    "a list of tables": _is_list,
    "a whole number of at least 1": _is_count,
    "a table": _is_table,
    "a name or a place from 0": _is_output,
}
