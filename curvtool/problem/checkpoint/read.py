"""Read a checkpoint: tensors and plain values, and nothing that would run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curvtool.errors import InputError
from curvtool.problem.checkpoint.candidates import find_candidates, require_folded
from curvtool.problem.checkpoint.content import Checkpoint, Content
from curvtool.problem.checkpoint.digests import file_sha256 as file_sha256
from curvtool.problem.checkpoint.folders import CONFIG, find
from curvtool.problem.checkpoint.formats.distributed import read_distributed
from curvtool.problem.checkpoint.formats.programs import read_program
from curvtool.problem.checkpoint.formats.safe_tensors import read_safetensors
from curvtool.problem.checkpoint.formats.sharded import read_sharded
from curvtool.problem.checkpoint.formats.torch_saved import read_torch_saved
from curvtool.problem.checkpoint.kind import Kind, kind_of_file
from curvtool.problem.checkpoint.settings import plain_values
from curvtool.problem.wording import did_you_mean, kind_of

OWN_KEY = "curvtool"
SCHEMA = "curvtool-checkpoint/1"
_MOST_VALUES = 10_000


def read_checkpoint(path: Path, *, trust: bool = False) -> Checkpoint:
    """Read names, shapes and the embedded spec; weights of zip files are mapped, not read.

    Always with `weights_only=True`, and nothing is ever tried without it.

    Args:
        path: a file or a folder, recognised by its content, whatever its name.
        trust: whether the code of a program (TorchScript, torch.export) may run.

    Returns:
        Its content.

    Raises:
        InputError: for anything that is not a checkpoint with a state dict in it.
    """
    place, kind = find(path)
    content = _read(place, kind, trust=trust)
    payload, own = content.payload, None
    if isinstance(payload, Mapping) and OWN_KEY in payload:
        own = payload[OWN_KEY]
        payload = {key: value for key, value in payload.items() if key != OWN_KEY}
    problem = None if own is None else _own_problem(own, path)
    candidates = find_candidates(payload, path)
    size = sum(file.stat().st_size for file in content.files)
    for candidate in candidates:
        require_folded(candidate, path, size)
    files = content.files
    if path.is_dir() and (path / CONFIG).is_file():
        files = (*files, path / CONFIG)
    return Checkpoint(
        path,
        candidates,
        files,
        problem,
        content.notes,
        content.program,
        settings=plain_values(payload),
    )


def _read(place: Path, kind: Kind, *, trust: bool) -> Content:
    if kind is Kind.DISTRIBUTED:
        return read_distributed(place)
    if kind is Kind.INDEX:
        return read_sharded(place, _read_shard)
    if kind in {Kind.TORCHSCRIPT, Kind.EXPORTED}:
        return read_program(place, kind, trust=trust)
    return _read_shard(place)


def _read_shard(path: Path) -> Content:
    """One file that is whole in itself."""
    kind = kind_of_file(path)
    if kind is Kind.SAFETENSORS:
        return read_safetensors(path)
    if kind in {Kind.ZIP, Kind.LEGACY}:
        return read_torch_saved(path, kind)
    raise InputError(
        f"{path}: expected a file of tensors; got {kind.value}. Copy the whole folder again."
    )


def _own_problem(own: object, path: Path) -> object:
    if not isinstance(own, Mapping) or "schema" not in own:
        raise InputError(
            f'{path}: expected "{OWN_KEY}" in the checkpoint to hold a schema and a problem; got '
            f"{kind_of(own)}. Write such files with curvtool.save_checkpoint, or rename that entry."
        )
    if own["schema"] != SCHEMA:
        raise InputError(
            f'{path}: expected the schema "{SCHEMA}"; got {own["schema"]!r:.80}. Update curvtool '
            f"if the file was written by a later version."
        )
    unknown = [str(key) for key in own if key not in {"schema", "problem"}]
    if unknown:
        raise InputError(
            f'{path}: expected "schema" and "problem" under "{OWN_KEY}"; got "{unknown[0]}".'
            f"{did_you_mean(unknown[0], ['schema', 'problem'])} Write such files with "
            f"curvtool.save_checkpoint."
        )
    problem = own.get("problem", {})
    _require_tree(problem, path)
    return problem


def _require_tree(problem: object, path: Path) -> None:
    """Refuse a spec that refers to itself, or to one part so often that it unfolds for ever."""
    waiting, count = [problem], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > _MOST_VALUES:
            raise InputError(
                f"{path}: expected a problem of a few lines; it has more than {_MOST_VALUES:,} "
                f"values, or refers to itself. Write such files with curvtool.save_checkpoint."
            )
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
