"""The accelerator's instructions: layout, meaning and geometry; the program as it is stored in files."""
