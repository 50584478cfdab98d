"""Fully connected layer of whose weights most are zero: only the others are stored, and multiplied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch

from trec_dse.graph import FloatWeights, Int8Array, IntWeights, KernelCall, NodeQuantization, Shape, Work
from trec_dse.ops._activation import Activation
from trec_dse.ops._entries import pack_runs
from trec_dse.ops._fixed_point import bounds, rescale_field
from trec_dse.ops.dense import Dense


@dataclass(frozen=True)
class PrunedDense:
    """Weights: as of `Dense`, whole.

    Attributes:
        n_entries: weights that are stored; None, before quantisation, is all of them.
    """

    out_features: int
    activation: Activation = "none"
    n_entries: int | None = None
    kind: ClassVar[str] = "pruned_dense"
    keeps_quantization: ClassVar[bool] = False

    @property
    def dense(self) -> Dense:
        """The layer that gives the same."""
        return Dense(self.out_features, self.activation)

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_features,)."""
        return (self.out_features,)

    def entries(self, shape: Shape) -> int:
        """Weights that are multiplied."""
        return prod(shape) * self.out_features if self.n_entries is None else self.n_entries

    def macs(self, *inputs: Shape) -> int:
        """One per stored weight."""
        return self.entries(inputs[0])

    def scratch_bytes(self, *inputs: Shape) -> int:
        """None."""
        return 0

    def overlap(self, *inputs: Shape) -> int | None:
        """None: every output reads all of the input."""
        return None

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Products and outputs."""
        return (Work("entry_term", self.entries(inputs[0])), Work("entry_output", self.out_features))

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Matrix product."""
        return self.dense.forward(inputs, weights)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Symmetric per output."""
        return self.dense.quantize(weights, quantization)

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """The dense layer's."""
        return self.dense.run(inputs, weights, quantization)

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_pruned_dense_s8`."""
        counts, entries = pack_runs(weights["weights"])
        fields = (
            ("out_n", self.out_features),
            ("counts", counts),
            ("entries", entries),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_pruned_dense_s8", "trec_pruned_dense", fields),)
