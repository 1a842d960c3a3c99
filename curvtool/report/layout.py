"""Lines of a report: headings, labelled facts, paragraphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from curvtool.report.style import FAINT, TITLE, Page
from curvtool.report.words import joined, wrapped

INDENT = 2
_LABEL = 8


def heading(text: str) -> Text:
    """Build the heading of a section.

    Args:
        text: one or a few words.

    Returns:
        One line.
    """
    return Text().append(text, TITLE)


def indented(lines: Iterable[Text]) -> list[Text]:
    """Indent lines.

    Args:
        lines: to be indented.

    Returns:
        New lines.
    """
    return [Text(" " * INDENT).append(line) for line in lines]


def paragraph(text: str, width: int) -> list[Text]:
    """Wrap a sentence.

    Args:
        text: clean.
        width: cells in a line.

    Returns:
        Its lines.
    """
    return [Text(line) for line in wrapped(text, width)]


def fact(label: str, parts: Sequence[str | Text], page: Page) -> list[Text]:
    """Build a labelled fact; what does not fit continues under its first part.

    Args:
        label: a word of at most 8 characters, or nothing.
        parts: clean texts, set side by side.
        page: to be printed on.

    Returns:
        Its lines.
    """
    margin = INDENT + _LABEL + 2
    lines = joined(parts, page.width - margin, page)
    leads = [label, *[""] * (len(lines) - 1)]
    return [
        Text(" " * INDENT).append(lead.ljust(_LABEL + 2), FAINT).append(line)
        for lead, line in zip(leads, lines, strict=True)
    ]
