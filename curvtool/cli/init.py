"""`curvtool init`: what does this checkpoint tell of its problem, and what is left to say?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curvtool.cli import options as opt
from curvtool.cli.guard import guarded

DEFAULT_OUT = Path("curvtool.toml")


def init(
    checkpoint: opt.Checkpoint,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Problem file to write.", rich_help_panel=opt.OUTPUT),
    ] = DEFAULT_OUT,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a file that is there.", rich_help_panel=opt.OUTPUT),
    ] = False,
) -> None:
    """Write a problem file with all that a checkpoint tells.

    Looks at names and shapes of its tensors and at the values beside them,
    runs nothing of it, and writes TODO where it tells nothing.

    Example:

      curvtool init checkpoints/digits_mlp.pt -o digits.toml
    """  # noqa: D412, DOC501  # the help text
    with guarded():
        for line in _written(checkpoint, out, force=force):
            typer.echo(line)
    raise typer.Exit


def _written(checkpoint: Path, out: Path, *, force: bool) -> list[str]:
    """Write the file; what was found and what comes next, in lines."""
    from curvtool.cli.output import require_new_text
    from curvtool.problem.inspection import inspect_checkpoint, problem_file
    from curvtool.storage.small import write_text

    require_new_text(out, checkpoint, force=force)
    found = inspect_checkpoint(checkpoint)
    if found.is_complete:
        return [
            f"{checkpoint} names its own model, data and loss: no problem file is needed.",
            f"Next: curvtool check {checkpoint}",
        ]
    text, todo = problem_file(found, folder=out.parent)
    write_text(out, text, durable=False)
    if "model" in found.embedded:
        model = "in the checkpoint"
    else:
        model = found.model.build if found.model.build != "TODO" else "not recognised"
    numbers = sum(t.numel() for t in found.tensors.values())
    problem = "" if out == DEFAULT_OUT else f" --problem {out}"
    return [
        f"Wrote {out}",
        f"  tensors   {len(found.tensors)}, {numbers:,} numbers, at {found.where}",
        f"  model     {model}",
        f"  to do     {', '.join(todo) if todo else 'nothing'}",
        f"Next: {f'edit {out}, then ' if todo else ''}curvtool check {checkpoint}{problem}",
    ]
