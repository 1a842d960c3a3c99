"""How a run ended: one sentence in green, orange or red, and what must be known beside it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from curvtool.report.layout import INDENT, indented, paragraph
from curvtool.report.style import BAD, GOOD, WARNING, Page
from curvtool.report.words import capitalised


def ending(
    said: str,
    remarks: Iterable[tuple[str, str]],
    page: Page,
    *,
    done: bool,
    limited: bool = False,
) -> list[Text]:
    """Say how a run ended.

    Args:
        said: a sentence.
        remarks: sentences and their tones; an empty sentence is left out.
        page: to be printed on.
        done: whether all that was asked for was reached.
        limited: whether it was reached only as far as the arithmetic can.

    Returns:
        Lines.
    """
    mark, tone = (page.glyphs.passed, GOOD) if done else (page.glyphs.failed, BAD)
    if done and limited:
        mark, tone = page.glyphs.limited, WARNING
    lines: list[Text] = []
    for i, line in enumerate(paragraph(capitalised(said), page.width - INDENT)):
        lead = Text(" " * INDENT if i or page.plain else mark.ljust(INDENT))
        lines.append(lead.append(line))
        lines[-1].stylize(tone)
    for remark, remark_tone in remarks:
        if not remark:
            continue
        for line in paragraph(capitalised(remark), page.width - INDENT):
            line.stylize(remark_tone)
            lines += indented([line])
    return lines
