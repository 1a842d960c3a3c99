"""Results to HDF5 and back; the only room that knows the file."""
