"""Readers of networks from other tools: each returns a float graph."""
