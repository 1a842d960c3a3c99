"""What was differentiated: the head of every report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from curvtool.report import numbers
from curvtool.report.layout import fact
from curvtool.report.style import FAINT, TITLE, Page
from curvtool.report.words import clean, joined, sentence, shortened
from curvtool.results import ProblemSummary

_OPERATORS = {
    "hessian": "Hessian",
    "ggn": "Gauss-Newton",
    "fisher": "Fisher",
    "empirical-fisher": "Empirical Fisher",
}


def operator_name(config: Mapping[str, Any], page: Page) -> str:
    """Name the matrix that a run is about.

    Args:
        config: of the run.
        page: to be printed on.

    Returns:
        E.g. `Hessian`, clean.
    """
    operator = str(config.get("operator", "hessian"))
    return clean(_OPERATORS.get(operator, operator), page)


def title(name: str, problem: ProblemSummary, page: Page) -> list[Text]:
    """Head a report: what it is, of which checkpoint, model and size.

    Args:
        name: of the report, clean.
        problem: that it is about.
        page: to be printed on.

    Returns:
        Lines.
    """
    line = Text().append(shortened(name, page.width // 2, page), TITLE)
    path = clean(problem.checkpoint, page)
    line.append("  ").append(shortened(path, page.width - line.cell_len, page), FAINT)
    facts = [
        clean(problem.model, page),
        numbers.counted(problem.num_parameters, "parameter"),
        numbers.counted(problem.num_examples, "example"),
        clean(problem.loss, page),
    ]
    return [line, *joined((_short(part, page) for part in facts), page.width, page)]


def problem_facts(problem: ProblemSummary, page: Page) -> list[Text]:
    """Say what data the loss is the mean of, its value at the checkpoint, and what to know of it.

    Args:
        problem: that the report is about.
        page: to be printed on.

    Returns:
        Lines.
    """
    data = [
        _short(clean(problem.data, page), page),
        numbers.counted(problem.num_batches, "batch"),
    ]
    if problem.total_weight != problem.num_examples:
        data.append(f"weights sum to {problem.total_weight:,.6g}")
    value = [
        numbers.figure(problem.loss_value),
        f"gradient norm {numbers.figure(problem.gradient_norm)}",
    ]
    if problem.accuracy is not None:
        value.append(f"accuracy {100 * problem.accuracy:.2f} %")
    if problem.rmse is not None and problem.target_std is not None:
        spread = f"targets' standard deviation {numbers.figure(problem.target_std)}"
        value += [f"RMSE {numbers.figure(problem.rmse)}", spread]
    lines = [*fact("data", data, page), *fact("loss", value, page)]
    if problem.weight_decay:
        note = f"weight decay {problem.weight_decay:g}: H includes it as a multiple of the identity"
    else:
        note = "training regularisation is not included: H is of the data loss"
    notes = [note]
    if problem.train_mode:
        notes.append("the model is in train mode: the batch size is part of what H means")
    notes += [clean(text, page) for text in problem.notes]
    for i, text in enumerate(notes):
        lines += fact("note" if i == 0 else "", [sentence(text)], page)
    return lines


def _short(text: str, page: Page) -> str:
    return shortened(text, page.width - 12, page)
