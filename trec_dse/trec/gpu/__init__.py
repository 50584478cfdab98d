"""What the GPU computes: Triton kernels, the tables they read, and one training step made of them."""
