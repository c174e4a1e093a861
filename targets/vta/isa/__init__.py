"""The accelerator's instructions: layout, meaning, geometry, and a program as what a file holds."""
