"""Accuracy, agreement and latency of devices beside fp32 and the oracle: figures, gates, reports, pictures."""
