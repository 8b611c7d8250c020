"""hwflow: from a quantised network to a verified FPGA build."""

__version__ = "0.1.0"
