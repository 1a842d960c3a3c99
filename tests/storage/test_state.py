"""Whose state lies in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from curvtool.errors import ExitCode, InputError
from curvtool.random_vectors.streams import FORMAT
from curvtool.storage.state import SCHEMA, StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    held = StateFolder(tmp_path / "run.h5")
    yield held
    held.close()


def lay_down(folder: StateFolder, schema: str, *, products: bool) -> None:
    folder.begin({"kind": "spectrum"})
    (folder.path / "request.json").write_text(json.dumps({"schema": schema, "kind": "spectrum"}))
    if products:
        (folder.path / "rank-0.0.journal").write_bytes(b"CTJ1")


@pytest.mark.parametrize(
    ("schema", "whose"),
    [
        ("curvtool-state/1", "an earlier curvtool, whose random vectors had other numbers"),
        ("curvtool-state/99", "another curvtool"),
    ],
)
def test_a_state_of_another_version_is_refused_by_name(
    folder: StateFolder, schema: str, whose: str
) -> None:
    lay_down(folder, schema, products=True)
    with pytest.raises(InputError) as refused:
        folder.require_own_schema()
    assert str(refused.value) == (
        f"The state in {folder.path} was saved by {whose} ({schema}; this one continues {SCHEMA})."
        " Start afresh with --force, name another file with --out, or let the version that began "
        "the run finish it."
    )
    assert refused.value.exit_code == ExitCode.UNUSABLE_INPUT


@pytest.mark.parametrize("schema", ["curvtool-state/1", SCHEMA])
def test_where_nothing_would_be_lost_nothing_is_refused(folder: StateFolder, schema: str) -> None:
    folder.require_own_schema()
    lay_down(folder, schema, products=schema == SCHEMA)
    folder.require_own_schema()


def test_other_random_numbers_are_another_schema() -> None:
    assert f"curvtool-state/{FORMAT}" == SCHEMA
