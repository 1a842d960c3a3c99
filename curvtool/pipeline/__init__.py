"""Runs from their config to their result: the whole flow, one file for each command.

checkpoint + dataset + loss -> objective -> preflight -> plan -> operator -> algorithm -> result
"""

from curvtool.pipeline.bench import run_bench as run_bench
from curvtool.pipeline.check import run_check as run_check
from curvtool.pipeline.loading import Loaded as Loaded
from curvtool.pipeline.loading import load as load
from curvtool.pipeline.spectrum import run_spectrum as run_spectrum
