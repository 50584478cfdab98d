"""The one intermediate representation: a float `Graph`, and the int8 `QuantizedGraph` that becomes firmware.

They are two types so that a float graph cannot reach the planner, the cost model or the C generator. Nodes are
in the order of execution; a tensor has the name of the node that makes it, the input is called "input".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

INPUT = "input"
Shape = tuple[int, ...]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[Any]
Int8Array = npt.NDArray[np.int8]
FloatWeights = Mapping[str, FloatArray]
IntWeights = Mapping[str, IntArray]


@dataclass(frozen=True)
class Quantization:
    """real = scale * (q - zero_point), q in -128..127; in 0..15 where `bits` is 4, two to a byte."""

    scale: float
    zero_point: int
    bits: int = 8

    @property
    def low(self) -> int:
        """The smallest q."""
        return -128 if self.bits == 8 else 0

    @property
    def high(self) -> int:
        """The largest q."""
        return 127 if self.bits == 8 else 15

    def bytes_of(self, shape: Shape) -> int:
        """What a tensor takes in memory, rounded up to whole bytes."""
        return -(-math.prod(shape) * self.bits // 8)


@dataclass(frozen=True)
class NodeQuantization:
    """The quantisation of a node's inputs and of its output."""

    inputs: tuple[Quantization, ...]
    output: Quantization


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pooling: (height, width) pairs.

    Attributes:
        padding: rows above and columns to the left of the image.
        extra: how many more there are below and to the right; negative where there are fewer.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    extra: tuple[int, int] = (0, 0)

    @property
    def end_padding(self) -> tuple[int, int]:
        """Rows below and columns to the right of the image."""
        return self.padding[0] + self.extra[0], self.padding[1] + self.extra[1]

    def positions(self, shape: Shape) -> tuple[int, int]:
        """(out_h, out_w) for an input of shape (H, W, C)."""
        sizes = zip(shape, self.kernel, self.stride, self.padding, self.end_padding, strict=False)
        height, width = ((n + begin + end - k) // s + 1 for n, k, s, begin, end in sizes)
        return height, width

    def pad(self, images: torch.Tensor, value: float = 0.0) -> tuple[torch.Tensor, tuple[int, int]]:
        """Images (B, C, H, W) and the padding, the same on all sides, that they still need for this geometry.

        Where sides differ, and only there, images are padded here, with `value`.
        """
        if self.extra == (0, 0):
            return images, self.padding
        (top, left), (bottom, right) = self.padding, self.end_padding
        return F.pad(images, (left, right, top, bottom), value=value), (0, 0)


@dataclass(frozen=True)
class KernelCall:
    """One call of a C kernel, as data.

    Attributes:
        function, struct: the kernel and the type of its parameters.
        fields: (member, value): an int, an array that becomes a const table, or a nested tuple of ints and arrays. A
            member of a single byte is given as NumPy's int8 or uint8.
        inputs: which of the node's inputs are passed, by index.
        scratch: whether the kernel takes a scratch pointer; counts_clusters: whether it returns N_c.
    """

    function: str
    struct: str
    fields: tuple[tuple[str, "FieldValue"], ...]
    inputs: tuple[int, ...] = (0,)
    scratch: bool = False
    counts_clusters: bool = False


FieldValue = int | np.int8 | np.uint8 | IntArray | tuple["FieldValue", ...]


@dataclass(frozen=True)
class Work:
    """How much a kernel does, for the cycle model: `amount` units of the cost named `kind` in a target's timing."""

    kind: str
    amount: float


class Op(Protocol):
    """The meaning of an operator: a few numbers, for weights live on the graph. Shapes are (H, W, C) or (n,)."""

    kind: ClassVar[str]
    keeps_quantization: ClassVar[bool]

    def output_shape(self, *inputs: Shape) -> Shape:
        """Shape of the output."""
        ...

    def macs(self, *inputs: Shape) -> int:
        """Multiply-accumulates of one image."""
        ...

    def scratch_bytes(self, *inputs: Shape) -> int:
        """Bytes of workspace during the call."""
        ...

    def overlap(self, *inputs: Shape) -> int | None:
        """Bytes that every input must start after the output starts where both share memory; None: they must not.

        The planner uses it for inputs that nothing reads afterwards.
        """
        ...

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """What the cycle model charges; `worst` takes the most clusters there can be instead of the mean."""
        ...

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Float meaning on a batch: (B, H, W, C) or (B, n)."""
        ...

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Integer weights and tables from the float ones."""
        ...

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Exact integers of one image: the oracle of the C kernel."""
        ...

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """The C calls that compute it."""
        ...


@runtime_checkable
class LosesInput(Protocol):
    """An op whose kernel spoils what it reads: nothing may read that afterwards."""

    loses_input: ClassVar[bool]


@runtime_checkable
class OwnScales(Protocol):
    """An op whose weights say how its tensors are quantised: nothing is left to calibrate."""

    def input_quantization(self, weights: FloatWeights) -> Quantization:
        """Of the network's input, where the op reads that."""
        ...

    def output_quantization(self, weights: FloatWeights) -> Quantization:
        """Of the output."""
        ...


@dataclass(frozen=True)
class Node:
    """A place in a graph: an op and the names of the tensors it reads."""

    name: str
    op: Op
    inputs: tuple[str, ...]


def infer_shapes(nodes: Sequence[Node], input_shape: Shape) -> dict[str, Shape]:
    """Shape of every tensor by name."""
    shapes = {INPUT: input_shape}
    for node in nodes:
        shapes[node.name] = node.op.output_shape(*(shapes[name] for name in node.inputs))
    return shapes


@dataclass(frozen=True)
class Graph:
    """A float network; the last node is the output.

    Attributes:
        input_shape: how the network reads an image (H, W, C): as it is, or the same numbers as a sequence (T, 1, F).
        weights: node name -> tensor name -> array. Beside an operator's `weights` there may be `scales`, of which they
            are whole multiples of -128 to 127: those of an int8 network from elsewhere.
        ranges: tensor name -> the scale and zero point that such a network brought.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    weights: Mapping[str, FloatWeights]
    ranges: Mapping[str, Quantization] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor by name."""
        return infer_shapes(self.nodes, self.input_shape)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every tensor by name for a float batch (B, H, W, C)."""
        tensors = {INPUT: images.reshape(len(images), *self.input_shape)}
        for node in self.nodes:
            weights = {
                name: torch.from_numpy(array).to(images.dtype) for name, array in self.weights[node.name].items()
            }
            tensors[node.name] = node.op.forward([tensors[name] for name in node.inputs], weights)
        return tensors


@dataclass(frozen=True)
class QuantizedGraph:
    """The integer network. `quantization`: tensor name -> its scale, zero point and bits."""

    input_shape: Shape
    nodes: tuple[Node, ...]
    weights: Mapping[str, IntWeights]
    quantization: Mapping[str, Quantization]

    @property
    def output(self) -> str:
        """Name of the output tensor."""
        return self.nodes[-1].name

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor by name."""
        return infer_shapes(self.nodes, self.input_shape)

    def node_quantization(self, node: Node) -> NodeQuantization:
        """The quantisation of what `node` reads and writes."""
        return NodeQuantization(tuple(self.quantization[name] for name in node.inputs), self.quantization[node.name])

    def bytes_of(self, name: str) -> int:
        """Bytes of a tensor in the arena."""
        return self.quantization[name].bytes_of(self.shapes[name])

    def run(self, image: Int8Array) -> dict[str, Int8Array]:
        """Every tensor by name for one image as it lies in memory: the oracle that C must match bit for bit.

        A 4-bit tensor is given as one number, 0..15, per element.
        """
        is_packed = self.quantization[INPUT].bits == 4
        tensors = {INPUT: unpack(image, self.input_shape) if is_packed else image.reshape(self.input_shape)}
        for node in self.nodes:
            inputs = [tensors[name] for name in node.inputs]
            tensors[node.name] = node.op.run(inputs, self.weights[node.name], self.node_quantization(node))
        return tensors

    def quantize_images(self, images: npt.NDArray[np.floating[Any]]) -> Int8Array:
        """Float images (B, H, W, C), as the network was trained on, to what it reads: int8 of that shape.

        Where the network reads 4 bits, (B, bytes); larger images are averaged to its size first.
        """
        q = self.quantization[INPUT]
        if q.bits == 8:
            return quantize_array(images, q)
        return np.stack([pack(image) for image in quantize_array(averaged(images, self.input_shape), q)])


def quantize_array(values: npt.NDArray[np.floating[Any]], q: Quantization) -> Int8Array:
    """Nearest q, halves upwards, saturated."""
    levels = np.floor(np.asarray(values, dtype=np.float64) / q.scale + 0.5) + q.zero_point
    result: Int8Array = np.clip(levels, q.low, q.high).astype(np.int8)
    return result


def averaged(images: npt.NDArray[np.floating[Any]], shape: Shape) -> FloatArray:
    """Images (B, H, W, C) as means over blocks of pixels that leave `shape`, (H / n, W / m, C)."""
    count, height, width, channels = images.shape
    rows, columns = height // shape[0], width // shape[1]
    blocks = np.asarray(images, dtype=np.float64).reshape(count, shape[0], rows, shape[1], columns, channels)
    means: FloatArray = blocks.mean(axis=(2, 4))
    return means


def pack(levels: IntArray) -> Int8Array:
    """4-bit numbers, signed or not, two to a byte: the even one in the lower half; flattened."""
    flat = levels.reshape(-1).astype(np.uint8) & 15
    padded = np.append(flat, np.zeros(flat.size % 2, dtype=np.uint8))
    packed: Int8Array = (padded[0::2] | padded[1::2] << 4).astype(np.uint8).view(np.int8)
    return packed


def unpack(packed: IntArray, shape: Shape) -> Int8Array:
    """The numbers 0..15 of a tensor of `shape` that lies two to a byte."""
    flat = packed.reshape(-1).view(np.uint8)
    halves = np.stack([flat & 15, flat >> 4], axis=1).reshape(-1)
    levels: Int8Array = halves[: math.prod(shape)].astype(np.int8).reshape(shape)
    return levels
