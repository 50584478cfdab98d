"""From a torch network to the float graph: NCHW becomes NHWC, activations are fused, flatten disappears."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx, nn

from trec_dse.errors import UnsupportedError
from trec_dse.graph import INPUT, Graph
from trec_dse.lower._builder import Builder, module_of, tensors_read
from trec_dse.lower._layers import LAYERS, OWN, READ_PADDED
from trec_dse.ops.add import Add
from trec_dse.ops.concat import Concat


class Tracer(fx.Tracer):
    """Sees a layer of ours as one operation."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether fx stops at this module."""
        return isinstance(m, OWN) or super().is_leaf_module(m, module_qualified_name)


def lower(model: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """The float graph of `model` for images of shape (H, W, C).

    Batch norms must have been folded. Raises UnsupportedError that names the layer for anything without a kernel.
    """
    try:
        traced = Tracer().trace(model.eval())
    except fx.proxy.TraceError as problem:
        raise UnsupportedError(f"the network's forward cannot be traced: {problem}") from problem
    builder = Builder({INPUT: input_shape}, getattr(model, "ranges", {}))
    walk = _Walk(dict(model.named_modules()), builder)
    for node in traced.nodes:
        walk.visit(node)
    if not builder.nodes:
        raise UnsupportedError("the network holds no layer at all")
    last = walk.result
    if last != builder.nodes[-1].name:
        raise UnsupportedError(f"the network returns {last!r}, which is not its last layer")
    return Graph(builder.shapes[INPUT], tuple(builder.nodes), builder.weights, builder.ranges)


@dataclass
class _Walk:
    """Over the trace, from the input to what is returned."""

    modules: dict[str, nn.Module]
    builder: Builder
    result: str = ""

    def visit(self, node: fx.Node) -> None:
        """Lower one node of the trace."""
        graph = self.builder
        if node.op == "placeholder":
            graph.tensors[node.name] = INPUT
            graph.ranges |= {INPUT: graph.own_ranges[INPUT]} if INPUT in graph.own_ranges else {}
        elif node.op == "output":
            self.result = graph.tensors[tensors_read(node)[0].name]
        elif node.op == "call_module":
            self._module(node, self.modules[str(node.target)])
        else:
            self._function(node)
        # of layers that became one, the last one's is that of their output
        maker = module_of(node)
        if maker in graph.own_ranges and node.name in graph.tensors:
            graph.ranges[graph.tensors[node.name]] = graph.own_ranges[maker]

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        source = tensors_read(node)[0]
        if source.name in self.builder.padded and not isinstance(module, READ_PADDED):
            raise UnsupportedError(f"layer {source.target!r}: only convolutions and max pooling can read a padded map")
        for kind, handler in LAYERS.items():
            if isinstance(module, kind):
                handler(self.builder, node, source, module)
                return
        hint = "; fold batch norms before lowering" if isinstance(module, nn.BatchNorm2d) else ""
        raise UnsupportedError(f"layer {node.target!r} is a {type(module).__name__}, which has no int8 kernel{hint}")

    def _function(self, node: fx.Node) -> None:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        sources = tensors_read(node)
        if any(source.name in self.builder.padded for source in sources):
            raise UnsupportedError(f"{node.name!r}: only convolutions and max pooling can read a padded map")
        if node.target in (operator.add, operator.iadd, torch.add) or name in ("add", "add_"):
            if len(sources) != 2:
                raise UnsupportedError(f"{node.name!r} adds a constant; only two tensors can be added")
            self.builder.add(node, Add(), sources)
        elif node.target in (torch.cat, torch.concat):
            self._concat(node, sources)
        elif node.target in (F.relu, torch.relu) or name == "relu":
            self.builder.fuse(node, sources[0], "relu")
        elif node.target is F.relu6:
            self.builder.fuse(node, sources[0], "relu6")
        elif name in ("flatten", "dropout"):
            self.builder.alias(node, sources[0], flatten=name == "flatten")
        else:
            raise UnsupportedError(f"{node.name!r} calls {name}, which has no int8 kernel")

    def _concat(self, node: fx.Node, sources: Sequence[fx.Node]) -> None:
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if axis not in (1, -3):
            raise UnsupportedError(f"{node.name!r} concatenates along axis {axis}; only channels (1) can be")
        self.builder.add(node, Concat(), sources)
