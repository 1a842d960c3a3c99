"""Options that the stochastic commands share, and vectors that they take from other runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curvtool.config import Probes, Sharing
from curvtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from curvtool.pipeline import Loaded
    from curvtool.pipeline.loading import Config

ESTIMATOR = "Estimator"

ProbeKind = Annotated[
    Probes, typer.Option("--probes", help="Kind of the random vectors.", rich_help_panel=ESTIMATOR)
]
ProbeSharing = Annotated[
    Sharing,
    typer.Option(
        "--sharing",
        help="A probe for every batch, or one for all; auto: what the pilot finds cheaper.",
        rich_help_panel=ESTIMATOR,
    ),
]
Deflate = Annotated[
    Path | None,
    typer.Option(
        help="Spectrum run made with --vectors, whose eigenvectors are taken out exactly.",
        rich_help_panel=ESTIMATOR,
    ),
]
PerLayer = Annotated[bool, typer.Option("--per-layer", help="For every layer, too.")]
Group = Annotated[
    str | None,
    typer.Option(
        help="Regular expression that makes layers of parameter names.",
        show_default="modules that own parameters",
    ),
]


def grouping(group: str | None, *, per_layer: bool) -> str | None:
    """Check a regular expression.

    Args:
        group: as given.
        per_layer: whether layers are asked for at all.

    Returns:
        The same.

    Raises:
        UsageError: where it is none, or serves nothing.
    """
    if group is not None:
        if not per_layer:
            raise UsageError("--group says what a layer is; add --per-layer, or leave it out.")
        try:
            re.compile(group)
        except re.error as error:
            raise UsageError(
                f"--group needs a regular expression such as 'blocks\\.(\\d+)'; {group!r} is "
                f"none: {error}."
            ) from error
    return group


def eigenvectors_of(path: Path, config: Config, loaded: Loaded) -> Any:
    """Eigenvectors of a spectrum run of the same matrix.

    Args:
        path: of the run file.
        config: of the run that wants them.
        loaded: its problem.

    Returns:
        A numpy array of shape (k, P).

    Raises:
        InputError: for a run without vectors, or of another matrix: what differs is named.
    """
    from curvtool.storage.spectrum import read_spectrum

    found = read_spectrum(path)
    _require_same_matrix(path, "--deflate", found, config, loaded)
    if found.pairs.eigenvectors is None:
        raise InputError(
            f"--deflate needs eigenvectors; {path} holds eigenvalues only. Make it again with "
            "'curvtool spectrum ... --vectors --force'."
        )
    return found.pairs.eigenvectors


def eigenvalues_of(path: Path, config: Config, loaded: Loaded) -> Any:
    """Eigenvalues of a spectrum run of the same matrix; the arguments are those above."""
    from curvtool.storage.spectrum import read_spectrum

    found = read_spectrum(path, eigenvectors=False)
    _require_same_matrix(path, "--outliers", found, config, loaded)
    return found.pairs.eigenvalues


# What decides the matrix, beside the content of checkpoint and data.
_PROBLEM = ("params", "weight_decay", "train_mode", "max_examples")


def _require_same_matrix(
    path: Path, option: str, found: Any, config: Config, loaded: Loaded
) -> None:
    from curvtool.cli.output import as_text, differing

    here: dict[str, Any] = {**loaded.problem.hashes, "spec": loaded.problem.spec.as_dict()}
    there = found.environment
    phrases = [name for name, value in here.items() if as_text(there.get(name)) != as_text(value)]
    asked = config.request()
    of_here = {name: asked["problem"][name] for name in _PROBLEM}
    of_there = {name: found.config.get("problem", {}).get(name) for name in _PROBLEM}
    seeds = (asked["compute"]["seed"], found.config.get("compute", {}).get("seed"))
    if of_here["max_examples"] is not None and seeds[0] != seeds[1]:
        phrases.append(f"--seed, which draws the subset, was {seeds[1]}, now {seeds[0]}")
    phrases += differing(of_there, of_here)
    if phrases:
        raise InputError(
            f"{option} needs a run of the same matrix; {path} is of another one. What differs: "
            f"{'; '.join(phrases)}."
        )
