"""Random vectors whose numbers depend on seed, purpose and position alone."""
