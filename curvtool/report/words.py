"""Words in a given width: wrapping, shortening, and making foreign text harmless."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.text import Text

from curvtool.report.style import FAINT, Page

_FIRM = "\0"  # a space at which no line ends; no clean text has it


def clean(text: str, page: Page) -> str:
    """Make text from a file or a user fit to print.

    A checkpoint may be called anything: escape sequences, line ends and direction marks become
    visible escapes, so that no name can colour, move or forge a line of the report.

    Args:
        text: of any origin.
        page: to be printed on.

    Returns:
        One printable line; pure ASCII where the page is.
    """
    shown = "".join(
        char if char.isprintable() else " " if char.isspace() else ascii(char)[1:-1]
        for char in text
    )
    return shown if page.unicode else shown.encode("ascii", "backslashreplace").decode("ascii")


def shortened(text: str, width: int, page: Page) -> str:
    """Cut the middle out of a text that is too wide; a path's end says most, then its start.

    Args:
        text: clean.
        width: cells it may take, at least 8.
        page: to be printed on.

    Returns:
        The text, or a third of it, an ellipsis, and its end.
    """
    if cell_len(text) <= width:
        return text
    room = width - len(page.glyphs.ellipsis)
    head = _fitting(text, room // 3)
    tail = _fitting(text[::-1], room - cell_len(head))[::-1]
    return head + page.glyphs.ellipsis + tail


def capitalised(text: str) -> str:
    """Begin a sentence with a capital; the rest stays.

    Args:
        text: clean.

    Returns:
        The same, its first letter upper.
    """
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Make a remark a sentence: a capital first, a full stop last.

    Args:
        text: clean.

    Returns:
        The sentence.
    """
    text = capitalised(text.strip())
    return text if text.endswith((".", "!", "?")) else text + "."


def wrapped(text: str, width: int) -> list[str]:
    """Wrap text at spaces; a word wider than a line is cut.

    No line ends before a percent sign, nor after a sign of plus and minus.

    Args:
        text: clean.
        width: cells in a line, at least 2.

    Returns:
        Lines, at least one.
    """
    lines: list[str] = [""]
    firm = text.replace(" %", f"{_FIRM}%").replace("± ", f"±{_FIRM}").replace("+/- ", f"+/-{_FIRM}")
    for part in firm.split():
        word = part.replace(_FIRM, " ")
        gap = 1 if lines[-1] else 0
        if cell_len(lines[-1]) + gap + cell_len(word) <= width:
            lines[-1] += " " * gap + word
            continue
        rest = word
        while rest:
            piece = _fitting(rest, width)
            lines.append(piece)
            rest = rest[len(piece) :]
    return lines if lines[0] or len(lines) == 1 else lines[1:]


def joined(parts: Iterable[str | Text], width: int, page: Page) -> list[Text]:
    """Set short facts side by side, as many to a line as fit.

    Args:
        parts: facts, clean.
        width: cells in a line.
        page: to be printed on.

    Returns:
        Lines, at least one. A fact wider than a line is wrapped; empty ones are left out.
    """
    dot = page.glyphs.dot
    lines = [Text()]
    for part in parts:
        if not part:
            continue
        if lines[-1] and lines[-1].cell_len + len(dot) + cell_len(str(part)) <= width:
            lines[-1].append(dot, FAINT).append(part)
            continue
        pieces: Sequence[str | Text] = [part]
        if cell_len(str(part)) > width:
            style = part.style if isinstance(part, Text) else ""
            pieces = [Text(piece, style) for piece in wrapped(str(part), width)]
        lines.extend(Text().append(piece) for piece in pieces)
    return lines[1:] or lines


def _fitting(text: str, width: int) -> str:
    """Return the longest start of `text` that fits into `width` cells, at least one character."""
    used = 0
    for at, char in enumerate(text):
        used += cell_len(char)
        if used > width and at:
            return text[:at]
    return text
