"""The runs by what they have in common."""

from __future__ import annotations

from curvtool.results.blocks import SpectrumBlocksRun
from curvtool.results.comparison import BenchRun
from curvtool.results.density import DensityRun
from curvtool.results.spectrum import SpectrumRun
from curvtool.results.trace import DiagRun, TraceRun
from curvtool.results.track import TrackRun

# Runs that spent products on an answer; they share every field but that.
SolveRun = SpectrumRun | SpectrumBlocksRun | TraceRun | DensityRun | DiagRun
# Runs that go to a file.
StoredRun = SolveRun | BenchRun | TrackRun
