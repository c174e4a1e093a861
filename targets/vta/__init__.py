"""VTA: the whole network as one instruction stream for an FPGA accelerator, and the simulator of that accelerator."""
