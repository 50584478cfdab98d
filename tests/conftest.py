"""What every test runs under: one thread, for the tests themselves run side by side."""

import torch

torch.set_num_threads(1)
