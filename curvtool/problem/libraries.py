"""Libraries that few need: imported when they are used, with the line that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from curvtool.errors import InputError
from curvtool.problem.wording import first_line


def library(name: str, extra: str, who: str) -> Any:
    """An optional library.

    Args:
        name: of the module.
        extra: of ours that installs it.
        who: needs it, for the message.

    Returns:
        The module.

    Raises:
        InputError: where it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{who}: expected the library {name.partition('.')[0]}; it is not installed "
            f"({first_line(error)}). Install it: pip install 'curvtool[{extra}]'."
        ) from error
