"""The program that runs on every device: run.py, copied into every artifact beside the target's device.py."""
