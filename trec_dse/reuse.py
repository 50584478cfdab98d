"""Which kernels are to be reused as hashes: those that tell most about the data, moved to the front of their layer.

A layer that reuses kernels takes its first H as hash vectors (`trec/`). Any H would do, for a network computes the same
with its channels in another order. The best bits are balanced and independent of each other: together their signatures
have the most entropy on the calibration images, and that is what is looked for, one kernel after the other.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from trec_dse.candidate import TrecConfig
from trec_dse.trec.hashing import kernel_hash, project, unfold_rows
from trec_dse.trec.recurrent import GruRecurrence, SruRecurrence

MOST_VECTORS = 2**17  # neuron vectors that are looked at in a layer

# which dimension of a layer's weights those channels are; of a depthwise one its inputs are its outputs
_DIMENSION = {
    tp.prune_conv_out_channels: 0,
    tp.prune_conv_in_channels: 1,
    tp.prune_depthwise_conv_out_channels: 0,
    tp.prune_depthwise_conv_in_channels: 0,
    tp.prune_linear_out_channels: 0,
    tp.prune_linear_in_channels: 1,
}


def telling_kernels_first(model: nn.Module, configs: Mapping[str, TrecConfig], images: Tensor) -> nn.Module:
    """A copy of a folded `model` that answers alike, the most telling kernels first where `configs` reuse kernels.

    `images`: normalised, (B, C, H, W). Recurrent networks stay as they are, for the order of their gates means
    something, and so do layers that are added to one whose order is settled already.
    """
    changed = copy.deepcopy(model).eval()
    if any(isinstance(module, SruRecurrence | GruRecurrence) for module in changed.modules()):
        return changed.train(model.training)
    settled: set[nn.Module] = set()
    for name, config in configs.items():
        layer = changed.get_submodule(name)
        if config.scope != "kernel_reuse" or not isinstance(layer, nn.Conv2d) or layer in settled:
            continue
        first = most_telling(_rows(changed, layer, images), layer.weight.detach(), config)
        order = [*first, *(i for i in range(layer.out_channels) if i not in set(first))]
        graph = tp.DependencyGraph().build_dependency(changed, example_inputs=images[:1])
        group = list(graph.get_pruning_group(layer, tp.prune_conv_out_channels, list(range(layer.out_channels))))
        is_read = any(_DIMENSION.get(item.dep.handler) == 1 for item in group)  # else its channels are the classes
        if is_read and all(_can_move(item) for item in group):
            _move(group, order)
            settled |= {item.dep.target.module for item in group if _DIMENSION.get(item.dep.handler) == 0}
    return changed.train(model.training)


def most_telling(rows: Tensor, weight: Tensor, config: TrecConfig) -> list[int]:
    """Of kernels `weight` (M, C, kh, kw) the H whose signs split `rows` (R, K) into signatures of the most entropy.

    Chosen one by one, the entropy added up over the slices; of equals the first.
    """
    n_slices = rows.shape[1] // config.vector_length
    rows = rows[:: max(1, len(rows) * n_slices // MOST_VECTORS)]
    projections = project(rows.unsqueeze(0), kernel_hash(weight, len(weight), config.vector_length))
    bits = (projections[0] > 0).long()  # (n, R, M)
    codes = torch.arange(n_slices).view(-1, 1).expand(-1, len(rows))
    chosen: list[int] = []
    for _ in range(config.hash_bits):
        left = [m for m in range(len(weight)) if m not in chosen]
        chosen.append(max(left, key=lambda m: (_entropy(2 * codes + bits[:, :, m]), -m)))
        codes = 2 * codes + bits[:, :, chosen[-1]]
    return chosen


def _entropy(codes: Tensor) -> float:
    """Up to a constant and a factor, that of whole numbers."""
    counts = torch.bincount(codes.flatten()).double()
    return -float((counts * counts.clamp(min=1).log()).sum())


def _rows(model: nn.Module, layer: nn.Conv2d, images: Tensor) -> Tensor:
    """What the kernels of `layer` are multiplied with (R, K) when `model` sees `images`."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(images)
    handle.remove()
    kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
    assert not isinstance(padding, str)
    rows = unfold_rows(seen[0], (kernel[0], kernel[1]), (stride[0], stride[1]), (padding[0], padding[1]))
    return rows.reshape(-1, rows.shape[2])


def _can_move(item: Any) -> bool:
    is_bare = next(item.dep.target.module.parameters(recurse=False), None) is None
    return is_bare or item.dep.handler in _DIMENSION


@torch.no_grad()
def _move(group: Sequence[Any], order: Sequence[int]) -> None:
    """Put channel order[i] in place of channel i, wherever layers of `group` write or read them."""
    done: set[tuple[nn.Module, int, tuple[int, ...]]] = set()
    for item in group:
        layer, dimension = item.dep.target.module, _DIMENSION.get(item.dep.handler)
        if dimension is None or (layer, dimension, tuple(item.idxs)) in done:
            continue
        done.add((layer, dimension, tuple(item.idxs)))
        places: dict[int, list[int]] = {}  # a flattened channel has as many as its map has pixels
        for own, root in zip(item.idxs, item.root_idxs, strict=True):
            places.setdefault(root, []).append(own)
        to = [own for root in range(len(order)) for own in places[root]]
        source = [own for root in order for own in places[root]]
        layer.weight.index_copy_(
            dimension, torch.tensor(to), layer.weight.index_select(dimension, torch.tensor(source))
        )
        if dimension == 0 and layer.bias is not None:
            layer.bias[to] = layer.bias[source]
