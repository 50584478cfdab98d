"""Everything that can run a network, one file each; only these modules talk to a port."""
