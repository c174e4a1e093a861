"""One module per command: it parses, calls the library and prints."""
