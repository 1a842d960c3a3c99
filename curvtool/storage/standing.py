"""Reading how runs stand, from their status files and the headers of their run files."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import h5py

from curvtool.errors import InputError
from curvtool.results.status import RunStatus, Standing
from curvtool.storage.file import RunHeader, peek
from curvtool.storage.ordering import by_numbers
from curvtool.storage.small import read_json_file
from curvtool.storage.state import lives_here, status_file
from curvtool.storage.status import SCHEMA

_STATUS = ".status.json"
_STATE = ".state"


def standings(place: Path) -> list[RunStatus]:
    """How the runs under a folder stand, or one run.

    Args:
        place: folder, run file (there or to come), or status file.

    Returns:
        In the order of paths, in which numbers count as such. Costs a small read for each.

    Raises:
        InputError: where there is nothing of that name, or it cannot be searched.
    """
    if place.is_dir():
        try:
            found = [_standing(output) for output in sorted(_outputs(place), key=by_numbers)]
        except OSError as error:
            raise InputError(
                f"Cannot look through {place}: the system says {error.strerror!r}. Mend its "
                "permissions, or name another folder."
            ) from error
        return [status for status in found if status is not None]
    output = place.with_name(place.name.removesuffix(_STATUS))
    status = _standing(output)
    if status is None:
        raise InputError(
            f"Cannot tell how {place} stands: expected a folder, a run file or a status file; "
            "there is no run of curvtool of that name. Check the path and the working directory."
        )
    return [status]


def _outputs(folder: Path) -> set[Path]:
    """Run files that are there or to come; links to folders are not followed."""
    found: set[Path] = set()
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith(_STATE)]
        found |= {
            Path(root, name.removesuffix(_STATUS))
            for name in names
            if name.endswith((_STATUS, ".h5")) and not name.startswith(".")
        }
    return found


def _standing(output: Path) -> RunStatus | None:
    """None where there is neither a status of ours nor a run file."""
    told = read_json_file(status_file(output)) or {}
    if told.get("schema") != SCHEMA:
        told = {}
    header = peek(output) if output.is_file() and h5py.is_hdf5(output) else None
    if not isinstance(header, RunHeader):
        return _as_told(output, told) if told else None
    told = {"state": "done", "updated": header.created} | told
    if told["state"] == "done":  # a status counts the steps of a solve, the file every product
        told["hvps"] = header.hvps
    return _as_told(output, told, kind=header.kind, outcome=header.outcome)


def _as_told(output: Path, told: dict[str, Any], *, kind: str = "", outcome: str = "") -> RunStatus:
    state, host, pid = str(told.get("state")), str(told.get("host", "")), told.get("pid")
    message = str(told.get("message", ""))
    known = {standing.value: standing for standing in Standing}
    standing = known.get(state, Standing.FAILED)
    here = host == socket.gethostname()
    if standing is Standing.RUNNING and here and not lives_here((str(pid), host)):
        standing = Standing.STALE
        message = f"Process {pid} is gone; the same command continues."
    if standing is Standing.DONE and not kind:
        standing = Standing.STALE
        message = "It was done, but there is no run file any more; the same command makes it again."
    hvps = told.get("hvps", 0.0)
    return RunStatus(
        output=str(output),
        standing=standing,
        kind=kind,
        outcome=outcome,
        hvps=float(hvps) if isinstance(hvps, int | float) else 0.0,
        updated=str(told.get("updated", "")),
        host=host,
        pid=pid if isinstance(pid, int) else 0,
        message=message,
    )
