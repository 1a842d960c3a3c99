"""Where a run's file goes, and what is done with a file that is there already."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curvtool.config import DEFAULT_TOP_K
from curvtool.errors import InputError
from curvtool.storage.file import Foreign, RunHeader, peek

if TYPE_CHECKING:
    from curvtool.pipeline import Loaded

_OTHERWISE = {"all_pairs": "--all", "checkpoint_sha256": "the checkpoint's content"} | {
    "data_sha256": "the data's content",
    "spec": "the problem spec",
}


def choose_output(out: Path | None, checkpoint: Path, kind: str, *, force: bool) -> Path:
    """Name the output and refuse what could not be written, before any work.

    Args:
        out: as `--out` gives it.
        checkpoint: names the file when `out` does not.
        kind: of the run.
        force: whether any file may be replaced.

    Returns:
        The path.

    Raises:
        InputError: for a folder that is missing or closed to us, for the checkpoint itself, or a
            file that is no run of ours.
    """
    path = (
        out
        if out is not None
        else Path(f"{checkpoint.stem or checkpoint.resolve().stem}.{kind}.h5")
    )
    found = _seen(path, checkpoint)
    if isinstance(found, Foreign) and not force:
        raise InputError(
            f"The output {path} is there already and is not a run of curvtool ({found.reason}) "
            "Name another file with --out, or replace it with --force."
        )
    if not isinstance(found, RunHeader):
        require_writable(path)
    return path


def require_new_text(path: Path, checkpoint: Path, *, force: bool) -> None:
    """Refuse to replace a text file, or to write where none can be.

    Args:
        path: of the output.
        checkpoint: must not be it.
        force: whether a file that is there may be replaced.

    Raises:
        InputError: for a file that is there, a folder that is missing or closed to us, or the
            checkpoint itself.
    """
    if _seen(path, checkpoint) is not None and not force:
        raise InputError(
            f"The output {path} is there already. Name another file with --out, or replace it "
            "with --force."
        )
    require_writable(path)


def require_writable(path: Path) -> None:
    """Refuse a folder in which no file can be made, before hours of work.

    Args:
        path: of the output.

    Raises:
        InputError: with the system's reason.
    """
    try:
        # Permissions do not tell: not of root, a read-only mount, or a full disk.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(
            f"The output {path} was expected to go into a folder that can be written; "
            f"{path.parent} cannot: the system says {error.strerror!r}. Name another file with "
            "--out."
        ) from error


def finished_before(
    path: Path,
    request: str,
    *,
    config: Mapping[str, Any],
    identity: Mapping[str, Any],
    max_hvps: int | None,
) -> bool:
    """Whether the output holds the answer to this very request already.

    Args:
        path: of the output.
        request: digest of what is asked.
        config: what is asked, to name what differs.
        identity: hashes and spec of what it is asked of, likewise.
        max_hvps: products that may be spent now; None where there is no limit.

    Returns:
        True for a run that ended, or that had at least as many products to spend; False where there
        is no file, or one of the same request that more products can improve.

    Raises:
        InputError: when the file holds another request.
    """
    found = refuse_another_request(path, request, config=config, identity=identity)
    if found is None:
        return False
    spent = found.config.get("max_hvps")
    ended = found.outcome != "max_hvps"
    return ended or (isinstance(spent, int) and max_hvps is not None and spent >= max_hvps)


def identity_of(loaded: Loaded) -> Mapping[str, Any]:
    """Hashes and spec: what a request is asked of."""
    return {**loaded.problem.hashes, "spec": loaded.problem.spec.as_dict()}


def refuse_another_request(
    path: Path, request: str, *, config: Mapping[str, Any], identity: Mapping[str, Any]
) -> RunHeader | None:
    """Say no to replacing the answer to another request.

    Args:
        path: of the output.
        request: digest of what is asked.
        config: what is asked, to name what differs.
        identity: hashes and spec of what it is asked of, likewise.

    Returns:
        The header of the file with the same request's answer; None where there is no file.

    Raises:
        InputError: when the file holds another request.
    """
    found = peek(path)
    if not isinstance(found, RunHeader):
        return None
    if found.environment.get("request") == request:
        return found
    before = dict(found.config)
    if found.kind == "spectrum" and not before.get("all_pairs"):
        before["top_k"] = before.get("top_k") or DEFAULT_TOP_K
    if before.get("certify") == "combinations":  # as versions before called it
        before["certify"] = "auto"
    phrases = differing(before, config) + [
        _otherwise(name)
        for name, value in identity.items()
        if as_text(found.environment.get(name)) != as_text(value)
    ]
    raise InputError(
        f"The output {path} holds another run, of {_described(found)}. What differs: "
        f"{'; '.join(phrases) or f'curvtool was version {found.version}'}. Show it with "
        f"'curvtool show {path}', name another file with --out, or replace it with --force."
    )


def _seen(path: Path, checkpoint: Path) -> RunHeader | Foreign | None:
    try:
        return _look(path, checkpoint)
    except OSError as error:  # a name too long, a folder that may not be searched
        raise InputError(
            f"The output {path} was expected to be a path that can be written; the system says "
            f"{error.strerror!r}. Name another file with --out."
        ) from error


def _look(path: Path, checkpoint: Path) -> RunHeader | Foreign | None:
    folder = path.parent
    if path.is_dir():
        raise InputError(f"The output {path} is a folder; name a file with --out.")
    if not folder.is_dir():
        raise InputError(
            f"The output {path} needs the folder {folder}, which is not there; make it with "
            f"'mkdir -p {folder}', or name another file with --out."
        )
    if path.exists() and not path.is_file():
        raise InputError(
            f"The output {path} is a pipe or device, which a run file would replace; name a file "
            "with --out. The report goes to stdout."
        )
    if path.exists() and checkpoint.exists() and path.samefile(checkpoint):
        raise InputError(
            f"The output {path} is the checkpoint itself, which would be lost; name another file "
            "with --out."
        )
    return peek(path)


def _described(found: RunHeader) -> str:
    problem = found.config.get("problem")
    checkpoint = problem.get("checkpoint") if isinstance(problem, dict) else None
    return f"{checkpoint} ({found.created})"


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """A phrase for every option that differs, of options in groups too.

    Args:
        there: options of the other run.
        here: of this one.

    Returns:
        Phrases such as `--seed was 0, now 1`.
    """
    phrases: list[str] = []
    for name, value in here.items():
        before = there.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and "kwargs" not in name:
            phrases += differing(before, value)
        elif _plain(before) != _plain(value):
            phrases.append(f"{_otherwise(name)} was {_plain(before)}, now {_plain(value)}")
    return phrases


def _otherwise(name: str) -> str:
    return _OTHERWISE.get(name, "--" + name.replace("_", "-"))


def _plain(value: object) -> str:
    if value is None or value is False:
        return "not given"
    if value is True:
        return "given"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "not given"
    return str(value)


def as_text(value: object) -> str:
    """As JSON, in which tuples and lists are the same."""
    return json.dumps(value, sort_keys=True, default=str)
