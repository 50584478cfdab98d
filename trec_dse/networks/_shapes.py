"""Arithmetic that the networks share."""

from trec_dse.errors import CandidateError


def map_size(size: int, kernel_size: int, *, padding: int = 0, stride: int = 1) -> int:
    """Side of the output of a convolution or pooling, in pixels; raises CandidateError if nothing would be left."""
    if size + 2 * padding < kernel_size:
        raise CandidateError(f"a window of {kernel_size} pixels does not fit into {size} with padding {padding}")
    return (size + 2 * padding - kernel_size) // stride + 1


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded, at least 4 and a multiple of 4 where it was one."""
    if width <= 0:
        raise CandidateError(f"width is {width}; it must be above 0")
    step = 4 if channels % 4 == 0 else 1
    return max(4, step * round(channels * width / step))
