"""Losses: each maps a model and a batch to a mean and the denominator of that mean."""

from curvtool.problem.losses.registry import resolve_loss as resolve_loss
