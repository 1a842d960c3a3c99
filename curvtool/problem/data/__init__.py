"""Datasets: one format a file, all of them ending as a list of batches in a fixed order."""

from curvtool.problem.data.allowance import Allowance as Allowance
from curvtool.problem.data.batching import Batches as Batches
from curvtool.problem.data.batching import make_batches as make_batches
from curvtool.problem.data.formats.registry import resolve_data as resolve_data
from curvtool.problem.data.preprocessing import preprocessing_of as preprocessing_of
