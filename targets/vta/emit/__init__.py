"""Layers as operations of the accelerator's three queues, in published or extended instructions."""
