"""Values of options that need more than a type."""

from __future__ import annotations

import math
import re

from curvtool.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_ADDRESSABLE = 2**64
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str) -> int:
    """Read a size such as `8GiB`, `512MB` or `1e9`.

    Args:
        text: a positive number with an optional unit; decimal (GB) and binary (GiB) are distinct.

    Returns:
        Bytes.

    Raises:
        UsageError: for anything else.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]i?)?b?\s*", text.lower())
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    if match is None or number <= 0:
        raise UsageError(f"--memory needs a size such as 8GiB or 500MB, got {text!r}.")
    unit = match[2] or ""
    size = number * (_BINARY.get(unit) or _UNITS[unit])
    if not 1 <= size < _ADDRESSABLE:
        raise UsageError(f"--memory needs a size that a machine can have, got {text!r}.")
    return int(size)


def device_name(text: str) -> str:
    """Check the shape of a device's name, without asking torch.

    Args:
        text: as given.

    Returns:
        The same text.

    Raises:
        UsageError: for anything but auto, cpu, cuda, cuda:N.
    """
    kind, _, index = text.partition(":")
    if text not in {"auto", "cpu", "cuda"} and not (
        kind == "cuda" and re.fullmatch(r"[0-9]{1,4}", index)
    ):
        raise UsageError(f"--device takes auto, cpu, cuda or cuda:N; got {text!r}.")
    return text


def positive(option: str, value: float) -> float:
    """Refuse what is not a positive finite number.

    Args:
        option: its name, for the message.
        value: as given.

    Returns:
        The value.

    Raises:
        UsageError: for zero, a negative number, infinity or NaN.
    """
    if not 0 < value < math.inf:
        raise UsageError(f"{option} needs a positive number, got {value:g}.")
    return value


def finite(option: str, value: float) -> float:
    """Refuse infinity and NaN.

    Args:
        option: its name, for the message.
        value: as given.

    Returns:
        The value.

    Raises:
        UsageError: for a number that is not finite.
    """
    if not math.isfinite(value):
        raise UsageError(f"{option} needs a finite number, got {value:g}.")
    return value


_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def parse_duration(option: str, text: str, *, least: float) -> float:
    """Read a time such as `90s`, `30m`, `2h`, `1h30m`, `02:00:00` or a number of seconds.

    Args:
        option: its name, for the message.
        text: as given.
        least: seconds that are still taken.

    Returns:
        Seconds.

    Raises:
        UsageError: for anything else.
    """
    given = text.strip().lower()
    seconds = -math.inf
    if re.fullmatch(r"([0-9]+(\.[0-9]+)?[dhms])+", given):
        parts = re.findall(r"([0-9.]+)([dhms])", given)
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    elif re.fullmatch(r"[0-9]+(\.[0-9]+)?", given):
        seconds = float(given)
    elif re.fullmatch(r"([0-9]+-)?[0-9]+:[0-9]{2}:[0-9]{2}", given):  # as Slurm writes it
        days, _, clock = given.rpartition("-")
        hours, minutes, rest = map(int, clock.split(":"))
        seconds = int(days or 0) * 86400.0 + hours * 3600.0 + minutes * 60.0 + rest
    if not least <= seconds < math.inf:
        raise UsageError(f"{option} needs a time such as 90s, 30m or 2h, got {text!r}.")
    return seconds
