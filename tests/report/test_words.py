from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from curvtool.report.style import Page
from curvtool.report.words import clean, joined, shortened, wrapped

PAGES = st.builds(Page, width=st.integers(8, 90), unicode=st.booleans(), plain=st.booleans())


@given(st.text(), PAGES)
def test_clean_text_is_printable_and_one_line(text: str, page: Page) -> None:
    shown = clean(text, page)
    assert shown.isprintable()
    assert page.unicode or shown.isascii()


def test_escape_sequences_become_visible() -> None:
    page = Page(width=80)
    assert clean("a\x1b[31mb\nc\u202ed", page) == "a\\x1b[31mb c\\u202ed"
    assert clean("Gewichte-größe.pt", page) == "Gewichte-größe.pt"


@given(st.text(), PAGES)
def test_shortened_text_fits(text: str, page: Page) -> None:
    text = clean(text, page)
    shown = shortened(text, page.width, page)
    assert cell_len(shown) <= page.width
    assert shown == text or page.glyphs.ellipsis in shown


def test_a_path_keeps_its_end() -> None:
    path = "/home/someone/projects/runs/cifar10/resnet18/epoch_090.pt"
    shown = shortened(path, 30, Page(width=80))
    assert shown.startswith("/home")
    assert shown.endswith("epoch_090.pt")


@given(st.text(), st.integers(8, 40))
def test_wrapping_keeps_every_character_but_spaces(text: str, width: int) -> None:
    text = clean(text, Page(width=width))
    lines = wrapped(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.lists(st.text(), max_size=5), PAGES)
def test_joined_parts_fit(parts: list[str], page: Page) -> None:
    parts = [clean(part, page) for part in parts]
    lines = joined(parts, page.width, page)
    assert lines
    assert all(line.cell_len <= page.width for line in lines)
