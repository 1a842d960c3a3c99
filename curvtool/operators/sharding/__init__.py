"""Products of models whose parameters no rank holds as a whole."""
