"""Eigenpairs of every layer's diagonal block, and a run that found them. Letters: L blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curvtool.results.outcome import Outcome, gravest
from curvtool.results.problem import ParameterEntry, ProblemSummary
from curvtool.results.product import Plan, Preflight
from curvtool.results.spectrum import EigenPairs


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockSpectra:
    """Eigenpairs of the diagonal blocks of H, one block for each layer.

    Attributes:
        names: of the layers, in the order of parameters.
        sizes: parameters of each layer: the block's size.
        pairs: of each block; where a run was interrupted, those of the blocks that came first, and
            `names` and `sizes` name these only. Eigenvectors have the block's size, in the flat
            order.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    pairs: Sequence[EigenPairs]

    @property
    def outcome(self) -> Outcome:
        """How the whole ended: converged only where every block did."""
        return gravest(pairs.outcome for pairs in self.pairs)

    @property
    def converged(self) -> bool:
        """Whether every block converged, and every pair of it."""
        return self.outcome is Outcome.CONVERGED and all(p.converged.all() for p in self.pairs)

    @property
    def hvps(self) -> int:
        """Products of all blocks."""
        return sum(pairs.hvps for pairs in self.pairs)

    @property
    def hvps_by_stage(self) -> Mapping[str, int]:
        """The same, by what they were spent on."""
        total: Counter[str] = Counter()
        for pairs in self.pairs:
            total.update(pairs.hvps_by_stage)
        return dict(total)

    @property
    def seconds(self) -> float:
        """Time of all solves."""
        return sum(pairs.seconds for pairs in self.pairs)


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectrumBlocksRun:
    """A whole `spectrum --per-layer` run: all that the run file holds and the report shows."""

    blocks: BlockSpectra
    problem: ProblemSummary
    plan: Plan
    preflight: Preflight
    parameters: Sequence[ParameterEntry]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    version: str
    created: str
