"""How the figures were computed and checked: plan, cost, preflight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from curvtool.report import numbers
from curvtool.report.layout import INDENT, fact, heading, indented, paragraph
from curvtool.report.style import BAD, FAINT, GOOD, Page
from curvtool.report.words import clean, shortened
from curvtool.results import Check, Forecast, Plan, Preflight, SolveRun


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Products and time of a solve.

    Attributes:
        hvps: products, parts of one over all batches included.
        by_stage: the same, by what they were spent on; empty where nothing tells them apart.
        solving: seconds of the solve.
        seconds: of the whole run.
    """

    hvps: float
    by_stage: Mapping[str, float]
    solving: float
    seconds: float


def plan_facts(plan: Plan, page: Page) -> list[Text]:
    """Say how the products were made.

    Args:
        plan: of the run.
        page: to be printed on.

    Returns:
        Lines.
    """
    way = [clean(text, page) for text in (plan.way, plan.dtype, plan.device)]
    kept = (
        f"{numbers.count(plan.batches_kept)} of {numbers.counted(plan.num_batches, 'graph')} "
        f"kept, {numbers.memory(plan.bytes_kept)}"
    )
    if plan.way_of_rest:
        kept += f", the rest by {clean(plan.way_of_rest, page)}"
    memory = [
        kept if plan.batches_kept else "no graphs kept",
        f"basis {numbers.memory(plan.bytes_basis)}",
        f"limit {numbers.memory(plan.memory_limit)}",
    ]
    each = []
    if plan.seconds_per_product is not None:
        each.append(f"{numbers.duration(plan.seconds_per_product)} per product")
    lines = fact("way", way + each, page)
    if plan.reason:
        lines += fact("why", [clean(plan.reason, page)], page)
    lines += fact("memory", memory, page)
    if plan.ranks > 1:
        shared = [
            f"{numbers.count(plan.ranks)} processes",
            f"{numbers.memory(round(plan.bytes_moved))} through each of them per product",
            f"{numbers.duration(plan.waiting)} of exchange and waiting",
        ]
        lines += fact("ranks", shared, page)
    if plan.forecast is not None:
        lines += fact("forecast", _forecast(plan.forecast), page)
    for i, text in enumerate(plan.adjustments):
        lines += fact("gave up" if i == 0 else "", [clean(text, page)], page)
    return lines


def _forecast(forecast: Forecast) -> list[str]:
    return [
        f"{numbers.duration(forecast.seconds_per_product)} per product",
        f"{numbers.duration(forecast.seconds)} for {numbers.counted(forecast.products, 'product')}",
        f"at most {numbers.memory(forecast.bytes)}",
    ]


def cost_facts(cost: Cost, page: Page) -> list[Text]:
    """Say what a solve cost.

    Args:
        cost: products and time.
        page: to be printed on.

    Returns:
        Lines.
    """
    stages = ", ".join(
        f"{clean(stage, page)} {numbers.products(hvps)}" for stage, hvps in cost.by_stage.items()
    )
    total = numbers.products(cost.hvps)
    products = [f"{total}: {stages}" if stages else total]
    time = [f"{numbers.duration(cost.seconds)} in all"]
    time.append(f"{numbers.duration(cost.solving)} solving")
    if cost.hvps and cost.solving > 0:
        time.append(f"{cost.hvps / cost.solving:.3g} products per second")
    return [*fact("products", products, page), *fact("time", time, page)]


def how(run: SolveRun, cost: Cost, page: Page, *, verbose: bool) -> list[list[Text]]:
    """Say how a solve was computed and checked: the end of its report.

    Args:
        run: the whole run.
        cost: of its solve.
        page: to be printed on.
        verbose: whether every check says what it compared.

    Returns:
        Two parts: plan and cost, preflight.
    """
    return [
        [heading("How it was computed"), *plan_facts(run.plan, page), *cost_facts(cost, page)],
        [heading("Preflight"), *preflight_lines(run.preflight, page, verbose=verbose)],
    ]


def preflight_lines(preflight: Preflight, page: Page, *, verbose: bool) -> list[Text]:
    """List the checks, each with its defect against what is allowed, and the noise.

    What a check compared is said where all of these sentences have room beside their checks,
    under `verbose`, and of a check that did not pass.

    Args:
        preflight: of the run.
        page: to be printed on.
        verbose: whether every check says what it compared.

    Returns:
        Lines.
    """
    names = [clean(check.name, page) for check in preflight.checks]
    width = min(max(map(cell_len, [*names, "noise"])), page.width // 4)
    rows = [
        _check(check, shortened(name, width, page), width, page)
        for check, name in zip(preflight.checks, names, strict=True)
    ]
    noise = Text() if page.plain else Text("  ")
    noise.append("noise".ljust(width)).append(numbers.upper(preflight.noise).rjust(9))
    details = [clean(check.detail, page) for check in preflight.checks]
    source = clean(preflight.noise_source, page)
    start = max((row.cell_len for row in rows), default=0) + 2
    room = page.width - INDENT - start
    all_fit = room > 0 and all(cell_len(text) <= room for text in details)
    lines: list[Text] = []
    for check, row, detail in zip(preflight.checks, rows, details, strict=True):
        if all_fit:
            lines.append(_beside(row, detail, start))
        else:
            said = detail if verbose or check.passed is not True else ""
            lines += [row, *_under(said, page)]
    if noise.cell_len + 1 + cell_len(source) <= page.width - INDENT:
        lines.append(_beside(noise, source, noise.cell_len + 1))
    else:
        lines += [noise, *_under(source, page)]
    return indented(lines)


def _check(check: Check, name: str, width: int, page: Page) -> Text:
    glyphs = page.glyphs
    mark, word, tone = {
        True: (glyphs.passed, "passed", GOOD),
        False: (glyphs.failed, "FAILED", BAD),
        None: (glyphs.unknown, "not made", FAINT),
    }[check.passed]
    line = Text()
    if not page.plain:
        line.append(mark.ljust(2), tone)
    line.append(name + " " * (width - cell_len(name)))
    if check.defect is not None:
        relation = glyphs.above if check.defect > check.allowed else glyphs.at_most
        line.append(numbers.upper(check.defect).rjust(9))
        line.append(f" {relation} {check.allowed:.1e}", FAINT)
    if page.plain or check.defect is None or not check.passed:
        line.append("  ").append(word, tone)
    return line


def _beside(row: Text, detail: str, start: int) -> Text:
    line = row.copy()
    return line.append(" " * (start - row.cell_len)).append(detail, FAINT)


def _under(detail: str, page: Page) -> list[Text]:
    if not detail:
        return []
    margin = INDENT if page.plain else 2 * INDENT  # past the mark
    lines = paragraph(detail, page.width - INDENT - margin)
    return [Text(" " * margin).append(line.plain, FAINT) for line in lines]
