"""Smaller integer graphs: weights whose code is short where the class sums do not notice."""
