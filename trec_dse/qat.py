"""Quantisation-aware training: the float graph as a torch module that computes what the int8 kernels will.

Weights, biases and hashes learn under the kernels' own rounding, and so do the scales of the activations. Zero points
stay, so that padding and ReLU remain exact.
"""

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from trec_dse.graph import INPUT, Graph, Quantization
from trec_dse.ops._fake_quantization import fake_pass, fake_run
from trec_dse.ops._levels import Levels, to_levels
from trec_dse.trec.conv import HASH_PACE, SLOPE_FIRST, SLOPE_LAST

_RENAMED = {"weights": "weight"}  # the singular makes the optimizer decay it
_HASH = ("hash", "thresholds")
_LEARNED = ("weights", "bias")  # tables of indices are neither
_KEPT = "kept"  # of a layer pruned one by one: 1 where a weight is left


class QatNetwork(nn.Module):
    """Normalised images (B, C, H, W) to logits, by the int8 network that `graph` and `ranges` would become."""

    def __init__(
        self,
        graph: Graph,
        ranges: Mapping[str, Quantization],
        *,
        learn_hashes: bool = True,
        holding: Collection[str] = (),
    ) -> None:
        """`ranges`: tensor name -> where its scale starts, and its zero point. `holding`: the nodes whose weights that
        are zero stay so."""
        super().__init__()
        self._slope = SLOPE_FIRST
        self._graph = graph
        self._zero_points = {name: q.zero_point for name, q in ranges.items()}
        self._layers = nn.ModuleDict()
        self._scales = nn.ParameterDict()
        for node in graph.nodes:
            # scales that weights came with are those of weights that stay
            found = {key: array for key, array in graph.weights[node.name].items() if key != "scales"}
            arrays = {key: torch.from_numpy(array).float() for key, array in found.items()}
            layer = nn.ParameterDict(
                {
                    _RENAMED.get(key, key): nn.Parameter(array, key in _LEARNED or (learn_hashes and key in _HASH))
                    for key, array in arrays.items()
                }
            )
            if node.name in holding:
                layer[_KEPT] = nn.Parameter((arrays["weights"] != 0).float(), False)
            self._layers[_key(node.name)] = layer
        fixed = {INPUT, *(node.name for node in graph.nodes if node.op.keeps_quantization)}
        for name, q in ranges.items():
            logarithm = torch.tensor(math.log(q.scale), dtype=torch.float64).to(torch.float32)
            self._scales[_key(name)] = nn.Parameter(logarithm, name not in fixed)

    def follow(self, progress: float) -> None:
        """Anneal the slope of soft hash bits with the share of the training that is done, 0 to 1."""
        self._slope = SLOPE_FIRST * (SLOPE_LAST / SLOPE_FIRST) ** progress

    def forward(self, images: Tensor) -> Tensor:
        """Logits as the int8 output stands for."""
        slope = self._slope if self.training and torch.is_grad_enabled() else None
        sequence = images.permute(0, 2, 3, 1).reshape(len(images), *self._graph.input_shape)
        tensors = {INPUT: self._levels(INPUT, sequence)}
        for node in self._graph.nodes:
            inputs, weights = [tensors[name] for name in node.inputs], self._weights(node.name)
            weights |= {key: _quickened(weights[key]) for key in _HASH if key in weights}
            if node.op.keeps_quantization:
                tensors[node.name] = fake_pass(node.op, inputs[0], weights)
            else:
                real = fake_run(node.op, inputs, weights, self._scale(node.name), slope)
                tensors[node.name] = self._levels(node.name, real)
        return tensors[self._graph.nodes[-1].name].real.flatten(1)

    @property
    def graph(self) -> Graph:
        """The float graph with the weights as they are now."""
        weights = {
            node.name: {key: value.detach().cpu().double().numpy() for key, value in self._weights(node.name).items()}
            for node in self._graph.nodes
        }
        return Graph(self._graph.input_shape, self._graph.nodes, weights)

    @property
    def ranges(self) -> dict[str, Quantization]:
        """Scales and zero points as they are now."""
        return {
            name: Quantization(float(self._scales[_key(name)].detach().exp()), zero)
            for name, zero in self._zero_points.items()
        }

    def _weights(self, node: str) -> dict[str, Tensor]:
        names = {learned: key for key, learned in _RENAMED.items()}
        layer = self._layers[_key(node)]
        assert isinstance(layer, nn.ParameterDict)
        found = {names.get(key, key): value for key, value in layer.items() if key != _KEPT}
        return {**found, "weights": found["weights"] * layer[_KEPT]} if _KEPT in layer else found

    def _scale(self, name: str) -> Tensor:
        scale: Tensor = self._scales[_key(name)].exp()
        return scale

    def _levels(self, name: str, real: Tensor) -> Levels:
        # A scale sums the gradients of all values; weighed down so, it learns at the pace of the weights (LSQ).
        pace = 1 / math.sqrt(127 * real[0].numel())
        logarithm = self._scales[_key(name)]
        logarithm = logarithm.detach() + pace * (logarithm - logarithm.detach())
        return to_levels(real, logarithm.exp(), self._zero_points[name])


def _quickened(parameter: Tensor) -> Tensor:
    """`parameter` itself in value, with `HASH_PACE` times its gradient."""
    return parameter.detach() + HASH_PACE * (parameter - parameter.detach())


def _key(name: str) -> str:
    """A tensor's name as torch allows it for a submodule."""
    return "at_" + name.replace(".", "/")
