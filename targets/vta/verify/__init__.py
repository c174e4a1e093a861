"""Proof of a program from the words in its image."""
