"""Lines of a report: headings, labelled facts, paragraphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group
from rich.text import Text

from curvtool.report.style import FAINT, TITLE, Page
from curvtool.report.words import joined, wrapped

INDENT = 2
_LABEL = 8
_NARROWEST, _WIDEST = 60, 120


def page_of(width: int, *, unicode: bool, plain: bool) -> Page:
    """Choose the page for a terminal: lines of 60 to 120 cells.

    Args:
        width: cells of a line of the terminal.
        unicode: whether more than ASCII may be printed.
        plain: whether to write lines of text only, without colours and drawings.

    Returns:
        The page.
    """
    return Page(width=min(max(width, _NARROWEST), _WIDEST), unicode=unicode, plain=plain)


def assembled(parts: Iterable[list[Text]], page: Page) -> Group:
    """Put the parts of a report under each other, an empty line between them.

    Args:
        parts: lines of each; empty ones are left out.
        page: to be printed on.

    Returns:
        The lines, without spaces at their ends, and without styles on a plain page.
    """
    lines: list[Text] = []
    for part in parts:
        if part:
            lines += [Text(), *part] if lines else part
    for line in lines:
        line.rstrip()
    return Group(*(Text(line.plain) for line in lines) if page.plain else lines)


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


def hanging(text: str, page: Page) -> list[Text]:
    """Wrap a sentence whose further lines are set in, to be told from the next one's first.

    Args:
        text: clean.
        page: to be printed on.

    Returns:
        Its lines, indented.
    """
    lines = paragraph(text, page.width - 2 * INDENT)
    return indented(Text(" " * INDENT if i else "").append(line) for i, line in enumerate(lines))
