"""Convolutions whose kernels are not stored whole, in floating point: how they are fitted, trained and put in place."""
