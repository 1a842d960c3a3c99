"""How reports look: the characters and colours, and what a line may hold.

Colours come from the 256-colour palette in shades that read on dark and on light backgrounds;
the basic sixteen do not (yellow on white, blue on black).
"""

from __future__ import annotations

from dataclasses import dataclass

POSITIVE = "color(32)"
NEGATIVE = "color(166)"
GOOD = "color(35)"
BAD = "bold color(196)"
WARNING = NEGATIVE
FAINT = "dim"
TITLE = "bold"


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """The characters of a report that plain ASCII lacks.

    `levels` are nine: from an empty cell to a full one.
    """

    plus_minus: str
    ellipsis: str
    dot: str
    at_most: str
    above: str
    passed: str
    failed: str
    limited: str
    unknown: str
    bar: str
    bar_right_half: str
    bar_left_half: str
    open_bar: str
    origin: str
    mark: str
    marks: str
    open_mark: str
    axis: str
    tick: str
    zero: str
    levels: str
    band: str
    pointer: str
    upright: str


UNICODE = Glyphs(
    plus_minus="±",
    ellipsis="…",
    dot=" · ",
    at_most="≤",
    above=">",
    passed="✓",
    failed="✗",
    limited="≈",
    unknown="–",
    bar="━",
    bar_right_half="╺",
    bar_left_half="╸",
    open_bar="╌",
    origin="│",
    mark="│",
    marks="┃",
    open_mark="┊",
    axis="─",
    tick="┬",
    zero="┴",
    levels=" ▁▂▃▄▅▆▇█",
    band="░",
    pointer="▼",
    upright="┤",
)
ASCII = Glyphs(
    plus_minus="+/-",
    ellipsis="...",
    dot=", ",
    at_most="<=",
    above=">",
    passed="+",
    failed="x",
    limited="~",
    unknown="-",
    bar="#",
    bar_right_half="#",
    bar_left_half="#",
    open_bar=".",
    origin="|",
    mark="|",
    marks="#",
    open_mark="?",
    axis="-",
    tick="+",
    zero="0",
    levels=" .:-=+*%#",
    band="'",
    pointer="v",
    upright="|",
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a report is drawn on.

    Attributes:
        width: cells in a line.
        unicode: whether the terminal shows more than ASCII.
        plain: whether only lines of text are wanted: no drawings.
    """

    width: int
    unicode: bool = True
    plain: bool = False

    @property
    def glyphs(self) -> Glyphs:
        """The characters to draw with."""
        return UNICODE if self.unicode else ASCII
