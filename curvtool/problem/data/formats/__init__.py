"""The formats that data come in, one a file; `registry.py` knows them by name."""
