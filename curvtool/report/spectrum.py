"""The report of a spectrum run: what was asked, what was found, and why to believe it."""

from __future__ import annotations

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.ending import ending
from curvtool.report.evidence import Cost, how
from curvtool.report.layout import INDENT, assembled, heading, indented, page_of
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.strip import legend, strip
from curvtool.report.style import BAD, FAINT, GOOD, NEGATIVE, TITLE, WARNING, Page
from curvtool.report.table import UNCONVERGED, pair_table
from curvtool.report.words import clean, joined
from curvtool.results import Certification, Completeness, EigenPairs, Outcome, SpectrumRun

_WHICH = {
    "LM": "largest in magnitude",
    "LA": "largest",
    "SA": "smallest",
    "BE": "from both ends",
}
_DOUBT: dict[Completeness | Certification, str] = {
    Completeness.MISSING: BAD,
    Completeness.NOT_PROBED: WARNING,
    Certification.NONE: WARNING,
}
# A product less noisy than this was made in float64.
_FLOAT64_NOISE = 1e-10


def spectrum_report(
    run: SpectrumRun, *, width: int, unicode: bool, plain: bool, verbose: bool = False
) -> RenderableType:
    """Build the report of a run, the same after a solve and from its file.

    Args:
        run: what to show.
        width: cells of a line; between 60 and 120 are used.
        unicode: whether more than ASCII may be printed.
        plain: whether to write lines of text only, without colours and drawings.
        verbose: whether to list every pair; otherwise at most 40.

    Returns:
        A group of lines, none wider than `width` where that is at least 60. Print it with
        `soft_wrap=True`, so that nothing is cut off on a narrower terminal.
    """
    page = page_of(width, unicode=unicode, plain=plain)
    pairs = run.pairs
    cost = Cost(
        hvps=pairs.hvps,
        by_stage=pairs.hvps_by_stage,
        solving=pairs.seconds,
        seconds=run.seconds,
    )
    parts = [
        title(f"{operator_name(run.config, page)} spectrum", run.problem, page),
        problem_facts(run.problem, page),
        _pairs(pairs, page, verbose),
        _strip(pairs, page),
        _ending(pairs, page),
        *how(run, cost, page, verbose=verbose),
    ]
    return assembled(parts, page)


def _pairs(pairs: EigenPairs, page: Page, verbose: bool) -> list[Text]:
    k = len(pairs.eigenvalues)
    if k == 0:
        return [Text("No eigenvalue was found before the solve ended.", BAD)]
    open_ones = int(np.count_nonzero(~pairs.converged))
    signs = pairs.eigenvalues, pairs.eigenvalue_errors
    negative = int(np.count_nonzero(signs[0] < -signs[1]))
    unsigned = int(np.count_nonzero((np.abs(signs[0]) <= signs[1]) & (signs[1] > 0)))
    which = _WHICH.get(pairs.which, clean(pairs.which, page))
    said = [
        Text(f"{numbers.counted(k, 'eigenvalue')}, {which}", TITLE),
        Text(f"{negative} negative", NEGATIVE if negative else FAINT),
    ]
    if unsigned:
        said.append(Text(f"{unsigned} of unknown sign", FAINT))
    if open_ones:
        said.append(Text(f"{numbers.count(open_ones)} {UNCONVERGED}", BAD))
    else:
        said.append(Text("all converged", GOOD))
    if pairs.completeness is Completeness.MISSING:
        said.append(Text("list INCOMPLETE", BAD))
    table = pair_table(pairs, Page(**vars(page) | {"width": page.width - INDENT}), verbose=verbose)
    return [*joined(said, page.width, page), *indented(table)]


def _strip(pairs: EigenPairs, page: Page) -> list[Text]:
    if page.plain or len(pairs.eigenvalues) == 0:
        return []
    width = page.width - 2 * INDENT
    drawn = strip(pairs.eigenvalues, pairs.converged, width, page.glyphs)
    if not drawn:
        return []
    key = legend(pairs.eigenvalues, pairs.converged, width, page.glyphs)
    return [heading("Where they lie"), *indented([*drawn, key] if key else drawn)]


def _ending(pairs: EigenPairs, page: Page) -> list[Text]:
    done = pairs.outcome is Outcome.CONVERGED and bool(pairs.converged.all())
    method = (
        f"{clean(pairs.method, page)}, {clean(pairs.which, page)}, tolerance "
        f"{pairs.tol:.3g} on {clean(pairs.accuracy, page)}"
    )
    remarks = [
        *((text, "") for text in _at_the_floor(pairs)),
        (pairs.completeness.sentence, _DOUBT.get(pairs.completeness, "")),
        (pairs.certification.sentence, _DOUBT.get(pairs.certification, "")),
        (method, ""),
    ]
    return ending(pairs.outcome.sentence, remarks, page, done=done)


def _at_the_floor(pairs: EigenPairs) -> list[str]:
    """Say which pairs met the floor of the arithmetic where the tolerance was below it."""
    if pairs.accuracy != "values":
        return []
    above = pairs.eigenvalue_errors > pairs.tol * np.abs(pairs.eigenvalues)
    at_floor = int(np.count_nonzero(pairs.converged & above))
    if not at_floor:
        return []
    more = "; float64 has more digits" if pairs.noise > _FLOAT64_NOISE else ""
    return [f"{numbers.count(at_floor)} of them to the floor of the arithmetic only{more}"]
