"""Eigensolvers that know a matrix only by its products."""
