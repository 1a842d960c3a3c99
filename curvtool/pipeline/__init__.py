"""Runs from their config to their result: the whole flow, one file for each command.

checkpoint + dataset + loss -> objective -> preflight -> plan -> operator -> algorithm -> result
"""

from curvtool.pipeline.bench import run_bench as run_bench
from curvtool.pipeline.check import run_check as run_check
from curvtool.pipeline.density import run_density as run_density
from curvtool.pipeline.diag import run_diag as run_diag
from curvtool.pipeline.loading import Loaded as Loaded
from curvtool.pipeline.loading import load as load
from curvtool.pipeline.spectrum import Neighbour as Neighbour
from curvtool.pipeline.spectrum import run_spectrum as run_spectrum
from curvtool.pipeline.spectrum_layers import run_spectrum_layers as run_spectrum_layers
from curvtool.pipeline.trace import run_trace as run_trace
from curvtool.pipeline.track import compared as compared
from curvtool.pipeline.track import summarised as summarised
