"""What a run found: frozen records that know no network, no file and no terminal.

Nothing here needs torch, so that a stored run can be shown where torch is not installed.
"""

from curvtool.results.blocks import BlockSpectra as BlockSpectra
from curvtool.results.blocks import SpectrumBlocksRun as SpectrumBlocksRun
from curvtool.results.comparison import BenchRun as BenchRun
from curvtool.results.comparison import CheckRun as CheckRun
from curvtool.results.completeness import WHOLE_MATRIX as WHOLE_MATRIX
from curvtool.results.completeness import Completeness as Completeness
from curvtool.results.completeness import EndProof as EndProof
from curvtool.results.completeness import unproved as unproved
from curvtool.results.density import DensityEstimate as DensityEstimate
from curvtool.results.density import DensityRun as DensityRun
from curvtool.results.density import SpectralFunction as SpectralFunction
from curvtool.results.outcome import FloatArray as FloatArray
from curvtool.results.outcome import Outcome as Outcome
from curvtool.results.problem import ParameterEntry as ParameterEntry
from curvtool.results.problem import ProblemSummary as ProblemSummary
from curvtool.results.product import Check as Check
from curvtool.results.product import Forecast as Forecast
from curvtool.results.product import Plan as Plan
from curvtool.results.product import Preflight as Preflight
from curvtool.results.product import Verdict as Verdict
from curvtool.results.product import WayTrial as WayTrial
from curvtool.results.runs import SolveRun as SolveRun
from curvtool.results.runs import StoredRun as StoredRun
from curvtool.results.spectrum import Certification as Certification
from curvtool.results.spectrum import EigenPairs as EigenPairs
from curvtool.results.spectrum import SpectrumRun as SpectrumRun
from curvtool.results.status import RunStatus as RunStatus
from curvtool.results.status import Standing as Standing
from curvtool.results.trace import DiagonalEstimate as DiagonalEstimate
from curvtool.results.trace import DiagRun as DiagRun
from curvtool.results.trace import TraceEstimate as TraceEstimate
from curvtool.results.trace import TraceRun as TraceRun
from curvtool.results.track import Tracked as Tracked
from curvtool.results.track import TrackRun as TrackRun
