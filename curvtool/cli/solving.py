"""How a `spectrum` run is made and kept: of one checkpoint, or of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from curvtool.cli.running import Kind
from curvtool.results import Completeness, Outcome, SpectrumRun
from curvtool.storage.spectrum import read_spectrum, write_spectrum

if TYPE_CHECKING:
    from curvtool.cli.progress import ProgressDisplay
    from curvtool.config import SpectrumConfig
    from curvtool.pipeline import Loaded, Neighbour
    from curvtool.resuming.session import Session


def spectrum_kind(config: SpectrumConfig, neighbour: Neighbour | None = None) -> Kind[SpectrumRun]:
    """How the run of one checkpoint is made and kept.

    Args:
        config: of the run.
        neighbour: to begin from.

    Returns:
        The kind; eigenvectors are not read.
    """

    def compute(loaded: Loaded, progress: ProgressDisplay, session: Session) -> SpectrumRun:
        from curvtool.pipeline import run_spectrum

        return run_spectrum(
            config,
            loaded,
            report=progress.step,
            tell=progress.tell,
            session=session,
            neighbour=neighbour,
        )

    def enough(stored: SpectrumRun) -> bool:
        # The default asks for at most P pairs, the same number as an option for that many.
        if config.top_k is not None and config.top_k > stored.problem.num_parameters:
            return False
        return proved_enough([stored.pairs.completeness], config, stored.config)

    return Kind(
        compute=compute,
        read=partial(read_spectrum, eigenvectors=False),
        write=write_spectrum,
        converged=lambda run: satisfies(run.pairs.outcome, config, run.config),
        enough=enough,
    )


def satisfies(outcome: Outcome, config: SpectrumConfig, made_for: Mapping[str, Any]) -> bool:
    """Whether a run is what was asked for, now and when it was made.

    Args:
        outcome: of the run.
        config: of this command.
        made_for: that of the command that made the run, as it is stored.

    Returns:
        True where every pair met the tolerance; of pairs that the floor of the arithmetic stopped
        before, where neither command gave a tolerance.
    """
    if outcome is Outcome.FLOOR:
        return not (config.tol_given or made_for.get("tol_given", False))
    return outcome is Outcome.CONVERGED


def proved_enough(
    proofs: Iterable[Completeness], config: SpectrumConfig, made_for: Mapping[str, Any]
) -> bool:
    """Whether a stored run need not be computed on for `--complete`.

    Args:
        proofs: of its lists.
        config: of this command.
        made_for: that of the command that made the run, as it is stored.

    Returns:
        True where `--complete` was not given; where the lists are complete; and where that could
        not be had with as many products.
    """
    if not config.complete or all(proof.complete for proof in proofs):
        return True
    before = made_for.get("max_hvps")
    tried = bool(made_for.get("complete", False))
    return tried and isinstance(before, int) and before >= config.max_hvps
