"""Accuracy, agreement and latency of devices, compared with fp32 and the oracle: figures, gates, reports, plots."""
