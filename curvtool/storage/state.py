"""The folder beside an output in which a run that is not finished keeps its state, and its lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from curvtool.errors import InputError
from curvtool.storage.small import read_json_file, write_json

# 2: random vectors by position. What a state holds was made of the random vectors of its run, so
# that other numbers (`random_vectors.streams.FORMAT`) are another schema.
SCHEMA = "curvtool-state/2"
_EARLIER = ("curvtool-state/1",)


def state_folder(output: Path) -> Path:
    """Where the state of a run with that output is kept."""
    return output.with_name(output.name + ".state")


def status_file(output: Path) -> Path:
    """Where the status of a run with that output is told."""
    return output.with_name(output.name + ".status.json")


@final
class StateFolder:
    """The folder of one output, locked for this process until `close` or `remove`.

    Attributes:
        path: of the folder.

    Raises:
        InputError: where another process that lives holds it, or it cannot be made.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = state_folder(output)
        self._lock = self._locked()

    @property
    def request(self) -> dict[str, Any] | None:
        """What the state belongs to; None where nothing is saved."""
        found = read_json_file(self.path / "request.json")
        return found if found is not None and found.get("schema") == SCHEMA else None

    def require_own_schema(self) -> None:
        """Refuse what another version has saved, which can neither be continued nor thrown away.

        Raises:
            InputError: says whose it is and what to do.
        """
        found = read_json_file(self.path / "request.json") or {}
        schema = found.get("schema")
        if not isinstance(schema, str) or schema == SCHEMA or self.is_empty:
            return
        if schema in _EARLIER:
            whose = "an earlier curvtool, whose random vectors had other numbers"
        else:
            whose = "another curvtool"
        raise InputError(
            f"The state in {self.path} was saved by {whose} ({schema}; this one continues "
            f"{SCHEMA}). Start afresh with --force, name another file with --out, or let the "
            "version that began the run finish it."
        )

    def begin(self, request: Mapping[str, Any]) -> None:
        """Say what the state belongs to; what belonged to something else is removed before.

        Args:
            request: JSON values.

        Raises:
            OSError: where the folder cannot be written to.
        """
        for name in os.listdir(self.path):
            if name != "lock":
                (self.path / name).unlink()
        write_json(self.path / "request.json", {"schema": SCHEMA, **request}, durable=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing that would be of use to a later run was saved."""
        try:
            return not any(name.endswith(".journal") or ".slot" in name for name in self._names())
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the folder with all that is saved, and let go of the lock."""
        if self._lock is not None:
            # The lock goes last: who finds the folder without it makes a new one.
            for name in self._names():
                if name != "lock":
                    with contextlib.suppress(OSError):
                        (self.path / name).unlink()
            shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of the lock; what is saved stays."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _names(self) -> list[str]:
        return os.listdir(self.path)

    def _locked(self) -> int | None:
        for _ in range(100):
            try:
                self.path.mkdir(exist_ok=True)
                descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:  # removed by its owner in between
                continue
            except OSError as error:
                raise InputError(
                    f"The state of this run goes to {self.path}, which cannot be written: the "
                    f"system says {error.strerror!r}. Mend that, or name another file with --out."
                ) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = _owner(descriptor)
                os.close(descriptor)
                raise _in_use(self.output, owner) from None
            except OSError:  # file systems without locks: by the owner's process alone
                owner = _owner(descriptor)
                if lives_here(owner):
                    os.close(descriptor)
                    raise _in_use(self.output, owner) from None
            if self._is_current(descriptor):
                me = f"{os.getpid()} {socket.gethostname()}\n".encode()
                with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, me, 0)
                return descriptor
            os.close(descriptor)
        raise InputError(
            f"The state folder {self.path} comes and goes: another process works on it. Wait for "
            "that one, or name another file with --out."
        )

    def _is_current(self, descriptor: int) -> bool:
        """Whether the lock is that of the folder, not of one that was removed meanwhile."""
        try:
            here = os.stat(self.path / "lock")
        except OSError:
            return False
        return os.path.samestat(here, os.fstat(descriptor))


def _owner(descriptor: int) -> tuple[str, str]:
    """Process id and host, empty where they are not known."""
    words = os.pread(descriptor, 300, 0).decode(errors="replace").split()
    return (words[0], words[1]) if len(words) > 1 else ("", "")


def lives_here(owner: tuple[str, str]) -> bool:
    """Whether another process of this host has that id.

    Args:
        owner: process id and host, as a lock or a status file tells them.

    Returns:
        False of this very process, and for another host.
    """
    pid, host = owner
    if host != socket.gethostname() or not pid.isdecimal() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _in_use(output: Path, owner: tuple[str, str]) -> InputError:
    pid, host = owner
    who = f"process {pid} on {host}" if pid else "another process"
    return InputError(
        f"The output {output} is being computed by {who}. Wait for it (the status is in "
        f"{status_file(output).name}), end it, or name another file with --out."
    )
