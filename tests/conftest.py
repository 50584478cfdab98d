"""What every test runs under: one thread, for the tests themselves run side by side; no trace in the user's data."""

import os

import torch

torch.set_num_threads(1)
os.environ["TREC_DSE_CALIBRATION"] = "off"
