"""From a torch network to the float graph."""

from trec_dse.lower.trace import Tracer, lower

__all__ = ["Tracer", "lower"]
