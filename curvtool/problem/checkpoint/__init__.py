"""Checkpoint files: what kind of file it is, what it holds, and how it fits a model."""

from curvtool.problem.checkpoint.read import Checkpoint as Checkpoint
from curvtool.problem.checkpoint.read import file_sha256 as file_sha256
from curvtool.problem.checkpoint.read import read_checkpoint as read_checkpoint
from curvtool.problem.checkpoint.weights import load_weights as load_weights
