"""Models of other libraries, built from names and numbers; weights come from the checkpoint."""

from curvtool.problem.builders.huggingface import huggingface as huggingface
from curvtool.problem.builders.timm_models import timm_model as timm_model
