"""What if a trained network clustered otherwise? Its weights under another H, L or kernel reuse, nothing retrained.

The float weights beside the int8 network are taken as they are. A layer whose config stays the same keeps its learned
hash; any other is started anew on what the layers before it give on the calibration images, as before training (at
levels, or else along principal directions). The network is then calibrated, rounded, compiled and run as in an
evaluation, so that a setting which changes nothing gives the trial's own int8 network.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trec_dse import codec
from trec_dse.candidate import Candidate, HashStart, SlicePolicy, TrecConfig, TrecPolicy, content_key, plain_trec
from trec_dse.course import calibration_images, nhwc
from trec_dse.datasets import Dataset
from trec_dse.durable import write_text
from trec_dse.errors import CandidateError, StudyError, UnsupportedError
from trec_dse.evaluate import cost_of, decide_for, load_dataset, network_folder, run_on_host
from trec_dse.graph import FloatWeights, Graph, Node, Quantization, QuantizedGraph
from trec_dse.memory import settled
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.quantize import quantize
from trec_dse.results import Evaluation, WhatIfGrid, WhatIfPoint, WhatIfSetting
from trec_dse.storage import evaluation_path
from trec_dse.store import load_float, load_graph
from trec_dse.target import Target
from trec_dse.trec.conv import TrecConv2d as TrecModule
from trec_dse.trec.policy import ConvShape
from trec_dse.zeros import without_zeros

HASH_BITS = (1, 2, 3, 4, 5, 6, 8)
POLICIES: tuple[SlicePolicy, ...] = ("channels", "kernel_row", "whole")
MOST_REUSE = 3
N_IMAGES = 1000
FORMAT = 1  # of the stored points; a change of what they mean counts it up

Convolution = Conv2d | TrecConv2d | TrecStripConv2d
Say = Callable[[WhatIfSetting, int, int], None]


@dataclass(frozen=True)
class TrainedNetwork:
    """A trial's network, opened for questions. `folder`: networks/KEY; `n_images`: validation images per accuracy."""

    candidate: Candidate
    source: Graph
    graph: QuantizedGraph
    dataset: Dataset
    target: Target
    folder: Path
    n_images: int

    @property
    def shapes(self) -> dict[str, ConvShape]:
        """The convolutions that TREC can treat, in network order."""
        return {node.name: _shape(node, self.source) for node in self.source.nodes if isinstance(node.op, Convolution)}


def open_network(
    study: Path, key: str, evaluation: Evaluation, target: Target, *, data_dir: Path | None, n_images: int = N_IMAGES
) -> TrainedNetwork:
    """The network of the candidate `key` of a study; StudyError if its float weights were not kept."""
    candidate = evaluation.candidate
    if not evaluation.is_trained:
        raise StudyError(f"candidate {key} was not trained to the end: there is no network to ask")
    if candidate.recipe.quantization.bits != 8:
        raise UnsupportedError("a 4-bit network has no TREC kernels; what-if needs one of 8 bits")
    if _has_exact_directions(candidate):
        raise UnsupportedError(
            "what-if clusters whole kernels anew; this network's were split for exact directions. Train a candidate "
            "with other numbers instead, or ask one without exact_directions"
        )
    folder = network_folder(evaluation_path(study, key).parent, evaluation.key)
    dataset = load_dataset(candidate, data_dir)
    n_images = min(n_images, len(dataset.validation))
    dataset = replace(dataset, validation=dataset.validation.stratified(n_images))
    return TrainedNetwork(candidate, load_float(folder), load_graph(folder), dataset, target, folder, n_images)


def settings_of(network: TrainedNetwork) -> tuple[WhatIfSetting, ...]:
    """The grid: every H, every policy for L, and kernel reuse in none to all, at most three, of the layers."""
    n_layers = len(_policy(network, WhatIfSetting(1, "whole", 0)).layers or network.shapes)
    policies = POLICIES if _own(network).slice_policy != "custom" else (*POLICIES, "custom")
    reuse = range(min(n_layers, MOST_REUSE) + 1)
    return tuple(WhatIfSetting(*each) for each in product(HASH_BITS, policies, reuse))


def grid(
    network: TrainedNetwork, trial: int, settings: Iterable[WhatIfSetting], say: Say, *, store: bool = True
) -> WhatIfGrid:
    """Answer every setting; what was answered before is read back. `say` is told each setting, its place, and how many.

    With `store` each answer is kept beside the network before the next one begins, so that an interrupted grid goes on.
    """
    settings = tuple(settings)
    points = []
    for i, setting in enumerate(settings):
        say(setting, i, len(settings))
        points.append(ask(network, setting, store=store))
    return WhatIfGrid(trial, network.n_images, as_trained(network, store=store), settings, tuple(points))


def ask(network: TrainedNetwork, setting: WhatIfSetting, *, store: bool = True) -> WhatIfPoint:
    """The network under `setting`: from its folder, or computed and, with `store`, kept there."""
    try:
        configs = decide_for(_policy(network, setting), network.shapes, network.target).configs
    except CandidateError as problem:
        return WhatIfPoint(refusal=str(problem))
    return _stored(network, configs, lambda: _answer(network, configs), store=store)


def as_trained(network: TrainedNetwork, *, store: bool = True) -> WhatIfPoint:
    """The int8 network of the trial itself on the same images."""
    return _stored(network, None, lambda: _point(network, network.graph), store=store)


def reclustered(network: TrainedNetwork, configs: Mapping[str, TrecConfig]) -> Graph:
    """The float network with its convolutions clustered as `configs` say, all others dense."""
    tensors = {"input": nhwc(calibration_images(network.dataset, network.candidate.recipe.n_calibration))}
    nodes: list[Node] = []
    weights: dict[str, FloatWeights] = {}
    start = network.candidate.recipe.hash_start
    for node in network.source.nodes:
        inputs = [tensors[name] for name in node.inputs]
        changed, arrays = node, network.source.weights[node.name]
        if isinstance(node.op, Convolution):
            changed, arrays = _converted(node, node.op, arrays, configs.get(node.name), inputs[0], start)
        nodes.append(changed)
        weights[node.name] = arrays
        floats = {name: torch.from_numpy(array).to(torch.float32) for name, array in arrays.items()}
        with torch.no_grad():
            tensors[node.name] = changed.op.forward(inputs, floats)
    return Graph(network.source.input_shape, tuple(nodes), weights, _brought(network))


def _answer(network: TrainedNetwork, configs: Mapping[str, TrecConfig]) -> WhatIfPoint:
    images = nhwc(calibration_images(network.dataset, network.candidate.recipe.n_calibration))
    try:
        graph = quantize(reclustered(network, configs), images, network.candidate.recipe.quantization)
        graph = settled(without_zeros(graph))
    except (CandidateError, UnsupportedError) as problem:
        return WhatIfPoint(configs=dict(configs), refusal=str(problem))
    return _point(network, graph)


def _point(network: TrainedNetwork, graph: QuantizedGraph) -> WhatIfPoint:
    run = run_on_host(graph, network.dataset, network.candidate.recipe.n_calibration)
    cost = cost_of(run.graph, network.target)
    treated = {layer.name: layer.trec for layer in cost.layers if layer.trec}
    return WhatIfPoint(
        accuracy=run.accuracy,
        sram_bytes=cost.sram_bytes,
        flash_bytes=cost.flash_bytes,
        macs=cost.macs,
        cycles=cost.cycles,
        worst_cycles=cost.worst_cycles,
        clock_hz=cost.clock_hz,
        redundancy={name: trec.redundancy_ratio for name, trec in treated.items()},
        configs={name: trec.config for name, trec in treated.items()},
    )


def _stored(
    network: TrainedNetwork,
    configs: Mapping[str, TrecConfig] | None,
    compute: Callable[[], WhatIfPoint],
    *,
    store: bool,
) -> WhatIfPoint:
    """The point of those configs, None standing for the network as it was trained, by a hash of all that decides it."""
    question = {
        "format": FORMAT,
        "configs": None if configs is None else {name: plain_trec(config) for name, config in configs.items()},
        "target": codec.unstructure(network.target),
        "n_images": network.n_images,
        "data": network.dataset.sha256,
    }
    path = network.folder / "what_if" / f"{content_key(question)}.json"
    if path.is_file():
        return codec.from_json(path.read_text(encoding="utf-8"), WhatIfPoint, str(path), StudyError)
    point = compute()
    if store:
        path.parent.mkdir(exist_ok=True)
        write_text(path, codec.to_json(point))
    return point


def _brought(network: TrainedNetwork) -> Mapping[str, Quantization]:
    """The scales that an int8 network from elsewhere came with: it keeps them."""
    return network.graph.quantization if network.candidate.recipe.quantization.calibration == "own" else {}


def _has_exact_directions(candidate: Candidate) -> bool:
    policy = candidate.trec
    given = [] if policy is None else [config.exact_directions for config in policy.layer_configs.values()]
    return policy is not None and max(policy.exact_directions, *given, 0) > 0


def _own(network: TrainedNetwork) -> TrecPolicy:
    return network.candidate.trec or TrecPolicy(0, 0)


def _policy(network: TrainedNetwork, setting: WhatIfSetting) -> TrecPolicy:
    """The trial's policy with the setting in place of its own numbers; a dense trial is clustered everywhere."""
    return replace(
        _own(network),
        hash_bits_early=setting.hash_bits,
        hash_bits_late=setting.hash_bits,
        slice_policy=setting.slice_policy,
        n_kernel_reuse=setting.n_kernel_reuse,
    )


def _shape(node: Node, graph: Graph) -> ConvShape:
    op = node.op
    assert isinstance(op, Convolution)
    out_h, out_w, out_channels = graph.shapes[node.name]
    return ConvShape(*op.window.kernel, graph.shapes[node.inputs[0]][2], out_channels, out_h * out_w)


def _converted(
    node: Node, op: Convolution, arrays: FloatWeights, config: TrecConfig | None, images: Tensor, start: HashStart
) -> tuple[Node, FloatWeights]:
    """A convolution with another way to cluster, or none; `images`: its input (B, H, W, C)."""
    bare = {name: arrays[name] for name in ("weights", "bias", "scales") if name in arrays}
    if config is None:
        return replace(node, op=Conv2d(op.out_channels, op.window, op.activation)), bare
    kind = TrecStripConv2d if config.scope == "strip_shared" else TrecConv2d
    changed = replace(node, op=kind(op.out_channels, op.window, config, op.activation))
    if not isinstance(op, Conv2d) and op.config == config:
        return changed, arrays
    padded, padding = op.window.pad(images.permute(0, 3, 1, 2))
    layer = TrecModule.from_conv(_torch_conv(op, bare, padding), config, hash_gradient="none")
    if layer.hash is None:
        return changed, bare
    layer.initialise_hash(padded.contiguous(), start)
    hashes = {"hash": layer.hash, "thresholds": layer.thresholds}
    return changed, bare | {name: tensor.detach().to(torch.float64).numpy() for name, tensor in hashes.items()}


def _torch_conv(op: Convolution, arrays: FloatWeights, padding: tuple[int, int]) -> nn.Conv2d:
    kernel, stride, in_channels = op.window.kernel, op.window.stride, arrays["weights"].shape[3]
    conv = nn.Conv2d(in_channels, op.out_channels, kernel, stride, padding)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(np.ascontiguousarray(arrays["weights"])).permute(0, 3, 1, 2))
        assert conv.bias is not None
        conv.bias.copy_(torch.from_numpy(arrays["bias"]))
    return conv.eval()
