"""Checkpoint files: what kind of file it is, what it holds, and how it fits a model."""

from curvtool.problem.checkpoint.choose import narrowed as narrowed
from curvtool.problem.checkpoint.content import Candidate as Candidate
from curvtool.problem.checkpoint.content import Checkpoint as Checkpoint
from curvtool.problem.checkpoint.digests import file_sha256 as file_sha256
from curvtool.problem.checkpoint.digests import files_sha256 as files_sha256
from curvtool.problem.checkpoint.digests import tensors_sha256 as tensors_sha256
from curvtool.problem.checkpoint.read import read_checkpoint as read_checkpoint
from curvtool.problem.checkpoint.weights import load_weights as load_weights
