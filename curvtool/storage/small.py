"""Small text files that are replaced whole: status, what a state belongs to, problem files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curvtool.storage import strictjson


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
    """Replace a file by a JSON object; a reader sees the old one or the new one.

    Args:
        path: of the file.
        value: what to write.
        durable: whether to wait until it would survive a loss of power.

    Raises:
        OSError: where it cannot be written; the old file is left.
    """
    write_text(path, strictjson.dumps(value) + "\n", durable=durable)


def write_text(path: Path, text: str, *, durable: bool) -> None:
    """Replace a file by a text in UTF-8; a reader sees the old one or the new one.

    Args:
        path: of the file.
        text: what to write.
        durable: whether to wait until it would survive a loss of power.

    Raises:
        OSError: where it cannot be written; the old file is left.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def read_json_file(path: Path) -> dict[str, Any] | None:
    """Read a JSON object.

    Args:
        path: of the file.

    Returns:
        The object; None where there is no file, or not that in it.
    """
    try:
        value = strictjson.loads(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
