"""Rates of statements."""
