"""The report of a spectrum run: what was asked, what was found, and why to believe it."""

from __future__ import annotations

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.completeness import completeness_sentences, proved_rank
from curvtool.report.ending import ending
from curvtool.report.evidence import Cost, how
from curvtool.report.layout import INDENT, assembled, heading, indented, page_of
from curvtool.report.met import asked_below_floor, met_by, met_facts, reached
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.strip import legend, strip
from curvtool.report.style import BAD, FAINT, GOOD, NEGATIVE, TITLE, WARNING, Page
from curvtool.report.table import pair_table
from curvtool.report.words import clean, joined
from curvtool.results import Certification, Completeness, EigenPairs, SpectrumRun

_WHICH = {
    "LM": "largest in magnitude",
    "LA": "largest",
    "SA": "smallest",
    "BE": "from both ends",
}
_UNCERTAIN = {Certification.NONE, Certification.OWN_PRODUCTS}


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
        _pairs(run, page, verbose),
        _strip(pairs, page),
        _ending(run, page),
        *how(run, cost, page, verbose=verbose),
    ]
    return assembled(parts, page)


def _pairs(run: SpectrumRun, page: Page, verbose: bool) -> list[Text]:
    pairs = run.pairs
    k = len(pairs.eigenvalues)
    if k == 0:
        return [Text("No eigenvalue was found before the solve ended.", BAD)]
    signs = pairs.eigenvalues, pairs.eigenvalue_errors
    negative = int(np.count_nonzero(signs[0] < -signs[1]))
    unsigned = int(np.count_nonzero((np.abs(signs[0]) <= signs[1]) & (signs[1] > 0)))
    which = _WHICH.get(pairs.which, clean(pairs.which, page))
    said = [
        Text(f"{numbers.counted(k, 'eigenvalue')}, {which}", TITLE),
        Text(proved_rank(pairs.completeness), _tone(pairs.completeness) or GOOD),
        Text(f"{negative} negative", NEGATIVE if negative else FAINT),
    ]
    if unsigned:
        said.append(Text(f"{unsigned} of unknown sign", FAINT))
    said += met_facts(met_by([pairs]), run, page)
    table = pair_table(pairs, Page(**vars(page) | {"width": page.width - INDENT}), verbose=verbose)
    return [*joined(said, page.width, page), *indented(table)]


def _strip(pairs: EigenPairs, page: Page) -> list[Text]:
    if page.plain or len(pairs.eigenvalues) == 0:
        return []
    width = page.width - 2 * INDENT
    known = pairs.converged | pairs.at_floor
    drawn = strip(pairs.eigenvalues, known, width, page.glyphs)
    if not drawn:
        return []
    key = legend(pairs.eigenvalues, known, width, page.glyphs)
    return [heading("Where they lie"), *indented([*drawn, key] if key else drawn)]


def _ending(run: SpectrumRun, page: Page) -> list[Text]:
    pairs = run.pairs
    found = met_by([pairs])
    method = (
        f"{clean(pairs.method, page)}, {clean(pairs.which, page)}, tolerance "
        f"{pairs.tol:.3g} on {clean(pairs.accuracy, page)}"
    )
    remarks = [
        (asked_below_floor(pairs.outcome, run.config), BAD),
        *(
            (clean(said, page), _tone(pairs.completeness))
            for said in completeness_sentences(pairs, page.glyphs.at_most)
        ),
        (pairs.certification.sentence, WARNING if pairs.certification in _UNCERTAIN else ""),
        (method, ""),
    ]
    return ending(
        pairs.outcome.sentence,
        remarks,
        page,
        done=reached(pairs.outcome, found, run.config),
        limited=found.at_floor > 0,
    )


def _tone(proof: Completeness) -> str:
    return "" if proof.complete else WARNING
