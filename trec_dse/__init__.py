"""Search TREC networks for microcontrollers: accuracy, SRAM, Flash and latency together."""

__version__ = "0.1.0"
