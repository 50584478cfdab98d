"""The scales that an int8 ONNX model brings for its activations."""

import numpy as np

from trec_dse.graph import Quantization
from trec_dse.importing.draft import Draft, Obstacle, Value
from trec_dse.importing.onnx_constants import Constant


def record_range(draft: Draft, value: Value, scale: Constant, zero: Constant | None) -> None:
    """Note how the output of `value`'s layer is quantised; uint8 becomes int8 by moving its zero point by 128.

    Raises Obstacle for scales per channel, more than 8 bits, or scales that contradict those before.
    """
    if value.is_final:
        return  # of a softmax that is dropped
    if scale.array.size != 1 or (zero is not None and zero.array.size != 1):
        raise Obstacle(f"holds {scale.array.size} scales; activations have one", "scale")
    kind = np.dtype(np.uint8) if zero is None else zero.array.dtype
    if kind not in (np.int8, np.uint8):
        raise Obstacle(f"is {kind}; only 8 bits have a kernel", "zero_point")
    step = float(scale.array.reshape(-1)[0])
    if not (np.isfinite(step) and step > 0):
        raise Obstacle(f"is {step:g}; needed a number above 0", "scale")
    level = 0 if zero is None else int(zero.array.reshape(-1)[0])
    found = Quantization(step, level - 128 if kind == np.uint8 else level)
    known = draft.ranges.setdefault(value.layer, found)
    if known != found:
        raise Obstacle(
            f"has scale {found.scale:g} and zero point {found.zero_point}; the same tensor came with {known.scale:g} "
            f"and {known.zero_point}",
            "scale",
        )
