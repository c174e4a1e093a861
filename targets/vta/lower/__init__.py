"""A graph through TVM, as layers, cut into tiles, as one program."""
