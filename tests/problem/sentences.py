"""What every refusal owes its reader: what was expected, what came, what to do; exit 4."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from curvtool.errors import ExitCode, InputError


def refusal(do: Callable[[], object], *, came: str, remedy: str) -> str:
    """Run `do`, which must refuse; return the sentence after looking for its parts."""
    with pytest.raises(InputError) as caught:
        do()
    assert caught.value.exit_code is ExitCode.UNUSABLE_INPUT
    sentence = str(caught.value)
    assert "expected" in sentence
    assert came in sentence
    assert remedy in sentence
    return sentence
