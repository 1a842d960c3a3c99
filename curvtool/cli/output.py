"""Where a run's file goes, and what is done with a file that is there already."""

from __future__ import annotations

import os
from pathlib import Path

from curvtool.errors import InputError
from curvtool.storage.file import Foreign, RunHeader, peek


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
        InputError: for a folder that is missing or closed to us, or a file that is no run of ours.
    """
    path = out if out is not None else Path(f"{checkpoint.stem}.{kind}.h5")
    folder = path.parent
    if path.is_dir():
        raise InputError(f"The output {path} is a folder; name a file with --out.")
    if not folder.is_dir():
        raise InputError(
            f"The output {path} needs the folder {folder}, which is not there; make it with "
            f"'mkdir -p {folder}', or name another file with --out."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"The output {path} cannot be written: the folder {folder} is not writable. Name "
            "another file with --out."
        )
    if not force:
        found = peek(path)
        if isinstance(found, Foreign):
            raise InputError(
                f"The output {path} is there already and is not a run of curvtool "
                f"({found.reason}). Name another file with --out, or replace it with --force."
            )
    return path


def finished_before(path: Path, request: str, *, max_hvps: int) -> bool:
    """Whether the output holds the answer to this very request already.

    Args:
        path: of the output.
        request: digest of what is asked.
        max_hvps: products that may be spent now.

    Returns:
        True for a run that ended, or that had at least as many products to spend; False where there
        is no file, or one of the same request that more products can improve.

    Raises:
        InputError: when the file holds another request.
    """
    found = peek(path)
    if not isinstance(found, RunHeader):
        return False
    if found.environment.get("request") != request:
        raise InputError(
            f"The output {path} holds another run, of {_described(found)}. Show it with 'curvtool "
            f"show {path}', name another file with --out, or replace it with --force."
        )
    before = found.config.get("max_hvps")
    ended = found.outcome != "max_hvps"
    return ended or (isinstance(before, int) and before >= max_hvps)


def _described(found: RunHeader) -> str:
    problem = found.config.get("problem")
    checkpoint = problem.get("checkpoint") if isinstance(problem, dict) else None
    asked = ", ".join(
        f"{name.replace('_', '-')} {found.config[name]}"
        for name in ("top_k", "which", "method", "tol")
        if found.config.get(name) is not None
    )
    return f"{checkpoint} ({asked}; {found.created})"
