"""Runs that survive their process: what is saved, when, and how it is given back."""
