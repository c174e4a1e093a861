"""What a board needs beside the program: the FPGA's bitstream."""
