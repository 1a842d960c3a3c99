"""Choosing the way of a solve: trials on the first batch, costs of all, the decision."""
