"""One thread, since products repeat bit by bit then; and no waiting for disks."""

from __future__ import annotations

import os

import pytest

from tests.operators.conftest import one_thread as one_thread


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power; a thousand saves would wait for minutes."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
