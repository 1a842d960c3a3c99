"""The report of `curvtool check`: is the product right, and what will a solve cost?"""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.ending import ending
from curvtool.report.evidence import plan_facts, preflight_lines
from curvtool.report.layout import INDENT, assembled, heading, indented, page_of
from curvtool.report.problem import operator_name, problem_facts, title
from curvtool.report.style import Page
from curvtool.report.ways import way_table
from curvtool.results import CheckRun


def check_report(
    run: CheckRun, *, width: int, unicode: bool, plain: bool, verbose: bool = False
) -> RenderableType:
    """Build the report of a check.

    Args:
        run: what to show.
        width: cells of a line; between 60 and 120 are used.
        unicode: whether more than ASCII may be printed.
        plain: whether to write lines of text only, without colours and drawings.
        verbose: whether every way and every check says its detail.

    Returns:
        A group of lines, none wider than `width` where that is at least 60. Print it with
        `soft_wrap=True`, so that nothing is cut off on a narrower terminal.
    """
    page = page_of(width, unicode=unicode, plain=plain)
    inner = Page(width=page.width - INDENT, unicode=unicode, plain=plain)
    tried = way_table(run.plan.trials, inner, verbose=verbose, chosen="chosen")
    return assembled(
        [
            title(f"{operator_name(run.config, page)} check", run.problem, page),
            problem_facts(run.problem, page),
            [heading("Preflight"), *preflight_lines(run.preflight, page, verbose=verbose)],
            [heading("Plan"), *plan_facts(run.plan, page)],
            [heading("Ways tried on the first batch"), *indented(tried)] if tried else [],
            _ending(run, page),
        ],
        page,
    )


def _ending(run: CheckRun, page: Page) -> list[Text]:
    passed = all(check.passed is not False for check in run.preflight.checks)
    said = "The product is that of the Hessian" if passed else "The product is NOT to be trusted"
    said += f"; one is right to {numbers.upper(run.preflight.noise)}."
    remarks = []
    forecast = run.plan.forecast
    if forecast is not None:
        more = (
            f"A solve of {numbers.counted(forecast.products, 'product')} will take about "
            f"{numbers.duration(forecast.seconds)} and {numbers.memory(forecast.bytes)} beside "
            "model and data; how many it needs, the spectrum decides. Checked and planned in "
            f"{numbers.duration(run.seconds)}."
        )
        remarks.append((more, ""))
    return ending(said, remarks, page, done=passed)
