"""A node of an ONNX graph with what it reads: its inputs and attributes, asked for by what they have to be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from trec_dse.importing.draft import Obstacle, Value
from trec_dse.importing.onnx_constants import Constant
from trec_dse.importing.onnx_file import OnnxNode

Item = Value | Constant | None  # None: what an operator without a counterpart would have given
T = TypeVar("T", int, float, str)


@dataclass(frozen=True)
class Call:
    """A node with what it reads."""

    node: OnnxNode
    inputs: Sequence[Item]

    def value(self, index: int = 0) -> Value:
        """The tensor at `index`; Obstacle if it is none."""
        item = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(item, Value):
            raise Obstacle(f"its input {index} is a constant; needed a tensor of the network")
        return item

    def constant(self, index: int, name: str) -> Constant:
        """The constant at `index`; Obstacle if it is computed from the image, or absent."""
        found = self.optional(index, name)
        if found is None:
            raise Obstacle("is absent", name)
        return found

    def optional(self, index: int, name: str) -> Constant | None:
        """The constant at `index`, if there is one."""
        item = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(item, Value):
            raise Obstacle("is computed by the network; needed a constant", name)
        return item

    def get(self, name: str, default: T) -> T:
        """An attribute of the type of its default."""
        found = self.node.attributes.get(name, default)
        if not isinstance(found, type(default)):
            raise Obstacle(f"is {found!r}", name)
        return found

    def numbers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list of integers, as long as its default unless that is empty."""
        found = self.node.attributes.get(name, default)
        if not isinstance(found, tuple) or (default and len(found) != len(default)):
            raise Obstacle(f"is {found!r}; needed {len(default)} integers", name)
        return tuple(int(n) for n in found)

    def expect(self, name: str, default: T, *wanted: T) -> None:
        """Raise Obstacle unless the attribute is one of `wanted`."""
        found = self.get(name, default)
        if found not in wanted:
            raise Obstacle(f"is {found!r}; only {' or '.join(repr(w) for w in wanted)} has a kernel", name)
