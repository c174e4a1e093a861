"""Benchmarks beside other toolkits; JSON results are in results/."""
