"""How a `spectrum` run is made and kept: of one checkpoint, or of many."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from curvtool.cli.running import Kind
from curvtool.results import Outcome, SpectrumRun
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
        return config.top_k is None or config.top_k <= stored.problem.num_parameters

    return Kind(
        compute=compute,
        read=partial(read_spectrum, eigenvectors=False),
        write=write_spectrum,
        converged=lambda run: run.pairs.outcome is Outcome.CONVERGED,
        enough=enough,
    )
