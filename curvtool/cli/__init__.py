"""Command line: parse, freeze, call, show."""
