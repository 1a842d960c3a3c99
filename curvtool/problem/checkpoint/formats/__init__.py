"""One reader for each format; none of them runs code of the file."""
