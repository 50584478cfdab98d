"""The twin: a board in software that runs the unmodified firmware and counts modelled core cycles.

What it is good for: every byte of an answer is exact, sizes and stack are those of the board, and start-up mistakes
that a board only shows as silence have a message (`checks.py`). Cycles are a model: the same rules, implemented
before, gave the published MLPerf Tiny run times with an rms error of 2.7 % (Cortex-M4) and 2.9 % (Cortex-M7);
on nine CMSIS-NN v7 convolutions this implementation differs from that one by at most 2.4 % and 5.1 %.
Not modelled: interrupts, DMA, timed code outside Flash, and bytes lost because the firmware was too slow to take them.
"""
