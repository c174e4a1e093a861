"""Train and validate float networks; recipes as data files."""
