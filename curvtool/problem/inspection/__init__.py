"""What a checkpoint tells of its own problem, and the problem file that says so."""

from curvtool.problem.inspection.inspect import Inspection as Inspection
from curvtool.problem.inspection.inspect import inspect_checkpoint as inspect_checkpoint
from curvtool.problem.inspection.problem_file import problem_file as problem_file
