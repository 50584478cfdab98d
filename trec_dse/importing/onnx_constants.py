"""What exporters compute from weights and shapes alone, computed here; and quantised weights as real numbers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trec_dse.importing.draft import Obstacle, Value
from trec_dse.importing.onnx_file import Array, OnnxNode

_MOST_FILLED = 4096  # values; exporters fill lists of axes, not tensors


@dataclass(frozen=True, eq=False)
class Constant:
    """An array that does not depend on the image.

    Attributes:
        scales: `array` is whole multiples, -128 to 127, of these: one, or one per index along `axis`; None: it is not.
    """

    array: Array
    scales: Array | None = None
    axis: int | None = None


def quantize_constant(values: Constant, scale: Constant, zero: Constant | None, axis: int) -> Constant:
    """Real weights as integers, as QuantizeLinear rounds: to the nearest, halves to even."""
    kind = np.dtype(np.uint8) if zero is None else zero.array.dtype
    if kind not in (np.int8, np.uint8):
        raise Obstacle(f"is {kind}; only 8 bits have a kernel", "y_zero_point")
    scales, zeros = _along(values.array, scale.array, zero, axis)
    limits = np.iinfo(kind)
    levels = np.rint(values.array / scales) + zeros
    return Constant(np.clip(levels, limits.min, limits.max).astype(kind))


def dequantize_constant(levels: Constant, scale: Constant, zero: Constant | None, axis: int) -> Constant:
    """Integer weights as real numbers that remember their scales.

    Weights with a zero point are taken where they are still whole multiples of -128 to 127, and so lose nothing.
    """
    array = levels.array
    if array.dtype not in (np.int8, np.uint8, np.int32):
        raise Obstacle(f"is {array.dtype}; needed 8-bit weights or a 32-bit bias", "x")
    if not (np.isfinite(scale.array).all() and (scale.array > 0).all()):
        raise Obstacle("holds a scale that is not above 0", "x_scale")
    scales, zeros = _along(array, scale.array, zero, axis)
    whole = array.astype(np.int64) - zeros
    real = (whole * scales.astype(np.float64)).astype(np.float32)
    if array.dtype == np.int32:
        return Constant(real)
    if whole.min(initial=0) < -128 or whole.max(initial=0) > 127:
        raise Obstacle(
            f"spans {whole.min()} to {whole.max()} around its zero point; the kernels' weights are symmetric, -128 to "
            "127: quantise weights symmetrically",
            "x_zero_point",
        )
    return Constant(real, scale.array, axis if scale.array.size > 1 else None)


def _along(array: Array, scale: Array, zero: Constant | None, axis: int) -> tuple[Array, Array]:
    """Scales and zero points so shaped that they stand along `axis` of `array`."""
    zeros = np.zeros_like(scale, dtype=np.int64) if zero is None else zero.array.astype(np.int64)
    if scale.size == 1 and zeros.size == 1:
        return scale.reshape(()), zeros.reshape(())
    if not -array.ndim <= axis < array.ndim or scale.size != array.shape[axis] or zeros.size not in (1, scale.size):
        raise Obstacle(f"holds {scale.size} scales along axis {axis} of {list(array.shape)}", "scale")
    shape = [1] * array.ndim
    shape[axis] = -1
    zeros = np.broadcast_to(zeros.reshape(-1), (scale.size,))
    return scale.reshape(shape), zeros.reshape(shape)


def shape_of(value: Value) -> Constant:
    """The shape of a tensor of the network; 0, which in a Reshape means "as it was", stands for the batch size."""
    channels_first = list(value.shape)
    shape = [*channels_first[1:], channels_first[0]] if value.channels_last else channels_first
    return Constant(np.array([0, *shape], dtype=np.int64))


def _axes(node: OnnxNode, inputs: Sequence[Constant]) -> tuple[int, ...]:
    given = node.attributes.get("axes")
    if len(inputs) > 1:
        return tuple(int(a) for a in inputs[1].array.reshape(-1))
    return given if isinstance(given, tuple) and all(isinstance(a, int) for a in given) else ()  # type: ignore[return-value]


def _constant(node: OnnxNode, _: Sequence[Constant]) -> Constant:
    for name, value in node.attributes.items():
        if name in ("value", "value_int", "value_float", "value_ints", "value_floats") and value is not None:
            return Constant(np.array(value))
    raise Obstacle(f"holds {', '.join(node.attributes) or 'nothing'}; needed numbers")


def _gather(node: OnnxNode, inputs: Sequence[Constant]) -> Constant:
    axis = node.attributes.get("axis", 0)
    assert isinstance(axis, int)
    return Constant(np.take(inputs[0].array, inputs[1].array, axis=axis))


def _concat(node: OnnxNode, inputs: Sequence[Constant]) -> Constant:
    axis = node.attributes.get("axis", 0)
    assert isinstance(axis, int)
    return Constant(np.concatenate([item.array for item in inputs], axis=axis))


def _slice(_: OnnxNode, inputs: Sequence[Constant]) -> Constant:
    array = inputs[0].array
    starts, ends, *rest = ([int(n) for n in item.array.reshape(-1)] for item in inputs[1:])
    axes = rest[0] if rest else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    where = [slice(None)] * array.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # backwards to below the first one: NumPy counts negative ends from the back
        where[axis] = slice(start, None if step < 0 and end < -array.shape[axis] else end, step)
    return Constant(array[tuple(where)])


def _filled(node: OnnxNode, inputs: Sequence[Constant]) -> Constant:
    shape, value = [int(n) for n in inputs[0].array.reshape(-1)], node.attributes.get("value")
    if math.prod(shape) > _MOST_FILLED or min(shape, default=0) < 0:
        raise Obstacle(f"makes a constant of shape {shape}")
    filled = np.float32(0) if not isinstance(value, np.ndarray) else value.reshape(-1)[0]
    return Constant(np.full(shape, filled))


def _transpose(node: OnnxNode, inputs: Sequence[Constant]) -> Constant:
    source, perm = inputs[0], node.attributes.get("perm")
    order = perm if isinstance(perm, tuple) else tuple(range(source.array.ndim))[::-1]
    axis = None if source.axis is None else [int(a) for a in order].index(source.axis % source.array.ndim)
    return Constant(np.transpose(source.array, [int(a) for a in order]), source.scales, axis)


def _reshape(_: OnnxNode, inputs: Sequence[Constant]) -> Constant:
    return Constant(inputs[0].array.reshape([int(n) for n in inputs[1].array.reshape(-1)]))


def _safely(fold: Callable[[OnnxNode, Sequence[Constant]], Constant]) -> Callable[..., Constant]:
    """`fold`, with what NumPy says of impossible shapes as an obstacle."""

    def folded(node: OnnxNode, inputs: Sequence[Constant]) -> Constant:
        try:
            return fold(node, inputs)
        except (ValueError, IndexError, AssertionError, TypeError) as problem:
            raise Obstacle(f"cannot be computed: {problem}") from problem

    return folded


FOLDS: dict[str, Callable[[OnnxNode, Sequence[Constant]], Constant]] = {
    "Cast": _safely(lambda _, inputs: inputs[0]),
    "Concat": _safely(_concat),
    "ConstantOfShape": _safely(_filled),
    "Constant": _safely(_constant),
    "Gather": _safely(_gather),
    "Identity": _safely(lambda _, inputs: inputs[0]),
    "Reshape": _safely(_reshape),
    "Slice": _safely(_slice),
    "Squeeze": _safely(lambda node, inputs: Constant(np.squeeze(inputs[0].array, _axes(node, inputs) or None))),
    "Transpose": _safely(_transpose),
    "Unsqueeze": _safely(lambda node, inputs: Constant(np.expand_dims(inputs[0].array, _axes(node, inputs)))),
}
