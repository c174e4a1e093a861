"""The accelerator's source, built for this machine, and what is measured on it."""
