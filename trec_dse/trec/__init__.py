"""TREC in floating point: hashing, clustering, a gradient for hashes, the layer, and how to put it into a network."""
