"""Bytes beside those of the TREC paper's tables I and IV, technique by technique, and arenas beside those of others.

    python benchmarks/paper_bytes.py                        # as tables of the documentation
    python benchmarks/paper_bytes.py --network cifarnet     # one network

Static bytes are those of convolutions, as in the paper, whose 420 KB of CifarNet leave its dense layers out. Ours are
exact: of float parameters, then every constant that the generated C holds (weights, biases, multipliers, shifts,
structs). Channels are pruned by the share that comes nearest to what the paper saves.

Dynamic bytes are what TREC adds. The paper counts hash vectors and clusters. `vanilla` keeps a vector for every
signature there can be, 2^H (4 L + 2) + 2 N bytes for one slice at a time; the two-step stack keeps those that exist,
at most min(2^H, N), and a byte for each signature and row. Both are shown with the vector lengths and bits that the
authors published, and with rows of the kernel and 5 bits. The last columns are what our kernels really take:
the largest workspace, all of the arena, and the hash in Flash.

The arena "as others lay it out" holds the same dense network: greedily placed tensors none of which shares memory with
its input, and the scratch buffers of CMSIS-NN v7 (data/cmsis_nn_v7.csv: 4 K bytes, K rounded up to fours, for kernels
larger than 1x1). What an interpreter keeps about tensors and operators is not counted.
"""

import argparse
import dataclasses
from dataclasses import dataclass, replace

import torch
from torch import nn

from trec_dse.candidate import Candidate, HashScope, TrecPolicy
from trec_dse.codegen import constant_bytes, network_calls
from trec_dse.datasets import placeholder
from trec_dse.evaluate import untrained_graph
from trec_dse.graph import Node, QuantizedGraph, Shape
from trec_dse.memory import plan_memory
from trec_dse.networks import build_model
from trec_dse.ops.avg_pool2d import AvgPool2d
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.prune import fold_batch_norms, prune
from trec_dse.search_space import load_candidate

SHARES = [step / 40 for step in range(40)]
ALL = 1000


@dataclass(frozen=True)
class Published:
    """What the paper prints, in KB as it does, savings in per cent.

    Attributes:
        added, hash_share: table I, what TREC adds and how much of that are hash vectors.
        reuse, reuse_and_stack: table IV, dynamic bytes saved by kernel reuse, and with the two-step stack.
        static: table IV, before anything; pruned, and_int8: saved by channel pruning, and with quantisation.
        preset: the candidate that holds the authors' L and H.
    """

    added: float
    hash_share: float
    reuse: float
    reuse_and_stack: float
    static: float
    pruned: float
    and_int8: float
    preset: str | None


PAPER = {
    "cifarnet": Published(20, 60.6, 41.2, 60.2, 420, 45.1, 86.8, "trec_cifarnet"),
    "zfnet_cifar": Published(40, 65.8, 68.2, 73.4, 4096, 92.4, 97.9, None),
    "squeezenet": Published(56, 91.1, 71.9, 77.3, 5120, 90.8, 97.4, "trec_squeezenet"),
}


class _OthersConv(Conv2d):
    """A convolution with CMSIS-NN's buffer, whose output is no neighbour of its input."""

    def scratch_bytes(self, *inputs: Shape) -> int:
        """Two columns of 16-bit numbers; none for 1x1."""
        return 0 if self.window.kernel == (1, 1) else 4 * (-(-self.row_length(inputs[0]) // 4) * 4)


class _OthersAverage(AvgPool2d):
    """An average with CMSIS-NN's buffer."""

    def scratch_bytes(self, *inputs: Shape) -> int:
        """An int32 sum of every channel."""
        return 4 * inputs[0][2]


def others_arena(graph: QuantizedGraph) -> int:
    """Bytes of the same network's arena without our planner's sharing, with CMSIS-NN's buffers."""
    return plan_memory(replace(graph, nodes=tuple(map(_others, graph.nodes))), in_place=False).size


def _others(node: Node) -> Node:
    for ours, theirs in ((Conv2d, _OthersConv), (AvgPool2d, _OthersAverage)):
        if type(node.op) is ours:
            fields = {field.name: getattr(node.op, field.name) for field in dataclasses.fields(node.op)}
            return replace(node, op=theirs(**fields))
    return node


def conv_floats(model: nn.Module, *, with_norms: bool) -> int:
    """Bytes of float parameters of all convolutions, and of the batch norms behind them with mean and variance."""
    total = 0
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            total += 4 * sum(parameter.numel() for parameter in module.parameters())
        elif with_norms and isinstance(module, nn.BatchNorm2d):
            total += 4 * 4 * module.num_features
    return total


def conv_constants(graph: QuantizedGraph) -> int:
    """Bytes in Flash of everything that belongs to convolutions."""
    constants = constant_bytes(graph)
    return sum(constants[node.name].total for node in graph.nodes if isinstance(node.op, Conv2d | TrecConv2d))


def hash_bytes(graph: QuantizedGraph) -> int:
    """Bytes in Flash of hash vectors, where they are not the kernels, and of thresholds."""
    total = 0
    for call in network_calls(graph):
        fields = dict(call.kernel.fields)
        if "starts" in fields:
            own = () if fields["hash"] is fields["weights"] else (fields["hash"],)
            total += sum(array.nbytes for array in (*own, fields["starts"]))
    return total


@dataclass(frozen=True)
class Clusters:
    """Bytes of the layer that needs most while it clusters, for one slice."""

    vanilla: int
    two_step: int


def cluster_bytes(graph: QuantizedGraph) -> Clusters:
    """Of all TREC layers, which use the same memory one after another."""
    vanilla, two_step = [0], [0]
    for node in graph.nodes:
        if isinstance(node.op, TrecConv2d):
            shape, op = graph.shapes[node.inputs[0]], node.op
            codes, length, rows = 1 << op.config.hash_bits, op.config.vector_length, op.n_positions(shape)
            vanilla.append(codes * (4 * length + 2) + 2 * rows)
            two_step.append(op.cap(shape) * (4 * length + 2) + codes + rows)
    return Clusters(max(vanilla), max(two_step))


def workspace(graph: QuantizedGraph) -> int:
    """Bytes of the largest workspace of a TREC layer."""
    shapes = graph.shapes
    return max(node.op.scratch_bytes(shapes[node.inputs[0]]) for node in graph.nodes if isinstance(node.op, TrecConv2d))


def build(name: str, trec: TrecPolicy | None = None, pruning: float = 0.0) -> QuantizedGraph:
    """The int8 network without training: bytes do not depend on what the weights are."""
    shares = {"*": pruning} if pruning else {}
    return untrained_graph(Candidate("cifar10", name, trec=trec, pruning=shares), placeholder("cifar10"))


def pruned_floats(name: str, share: float) -> int:
    """Float bytes of the convolutions of a folded network with that share of its channels pruned."""
    dataset = placeholder("cifar10")
    model = build_model(Candidate("cifar10", name), dataset.input_shape, dataset.n_classes).eval()
    if share:
        model = prune(model, dataset.input_shape, {"*": share})
    return conv_floats(fold_batch_norms(model), with_norms=False)


def share_that_saves(name: str, saved: float, first: int) -> float:
    """The share of channels, in fortieths, that comes nearest to saving that much of `first` bytes."""
    low, high = 0, len(SHARES) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if 1 - pruned_floats(name, SHARES[middle]) / first < saved else (low, middle)
    return min((SHARES[low], SHARES[high]), key=lambda s: abs(1 - pruned_floats(name, s) / first - saved))


def static_rows(name: str, paper: Published) -> list[list[str]]:
    """Table IV, static: bytes after each technique, and what is saved, ours and theirs."""
    dataset = placeholder("cifar10")
    model = build_model(Candidate("cifar10", name), dataset.input_shape, dataset.n_classes)
    first = conv_floats(model, with_norms=True)
    folded = pruned_floats(name, 0.0)
    share = share_that_saves(name, paper.pruned / 100, first)
    graph = build(name, pruning=share)
    steps = [
        ("float32, batch norms apart", first, f"{paper.static:,.0f} KB"),
        ("folded", folded, ""),
        (f"and {100 * share:g} % of channels pruned", pruned_floats(name, share), f"{paper.pruned} %"),
        ("and int8: all constants in C", conv_constants(graph), f"{paper.and_int8} %"),
        ("int8, not pruned", conv_constants(build(name)), ""),
    ]
    return [[name, title, f"{n:,}", f"{100 * (1 - n / first):.1f} %", theirs] for title, n, theirs in steps]


def dynamic_rows(name: str, paper: Published) -> list[list[str]]:
    """Tables I and IV, dynamic: hash vectors and clusters, before and after reuse and stack."""
    rows = []
    hashed = paper.added * paper.hash_share / 100
    theirs = [f"{hashed:.1f} KB", f"{paper.added - hashed:.1f} KB", f"{paper.reuse} %", f"{paper.reuse_and_stack} %"]
    rows.append([name, "paper", *theirs[:2], "", "", *theirs[2:], "", ""])
    forms = {"rows of the kernel, H=5": TrecPolicy(5, 5)}
    if paper.preset is not None:
        published = load_candidate(paper.preset).trec
        assert published is not None
        # the code shares one hash between all slices; the paper, like its table I, has one for each
        forms["published L and H"] = with_scope(published, "per_slice")
    for title, policy in forms.items():
        graph, reused = build(name, policy), build(name, _reused(policy))
        clusters, hashes = cluster_bytes(graph), hash_bytes(graph)
        before = hashes + clusters.vanilla
        by_reuse, by_both = (1 - (hash_bytes(reused) + kept) / before for kept in (clusters.vanilla, clusters.two_step))
        rows.append(
            [
                name,
                title,
                f"{hashes:,}",
                f"{clusters.vanilla:,}",
                f"{clusters.two_step:,}",
                f"{hash_bytes(reused):,}",
                f"{100 * by_reuse:.1f} %",
                f"{100 * by_both:.1f} %",
                f"{workspace(graph):,}",
                f"{plan_memory(graph).size:,}",
            ]
        )
    return rows


def _reused(policy: TrecPolicy) -> TrecPolicy:
    """The same lengths and bits, every layer's kernel its hash."""
    return replace(with_scope(policy, "kernel_reuse"), n_kernel_reuse=ALL)


def with_scope(policy: TrecPolicy, scope: HashScope) -> TrecPolicy:
    """Layers that are given outright with another hash."""
    configs = {name: replace(config, scope=scope) for name, config in policy.layer_configs.items()}
    return replace(policy, layer_configs=configs)


def arena_rows(name: str) -> list[list[str]]:
    """The dense network's arena, ours and as others lay it out."""
    graph = build(name)
    ours, others = plan_memory(graph).size, others_arena(graph)
    return [[name, f"{ours:,}", f"{others:,}", f"{100 * (1 - ours / others):.1f} %"]]


def show_table(headings: list[str], rows: list[list[str]]) -> None:
    """Markdown on standard output."""
    print("| " + " | ".join(headings) + " |")
    print("|---" * len(headings) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


DYNAMIC = [
    "network",
    "form",
    "hash",
    "clusters, vanilla",
    "two-step",
    "hash, reused",
    "reuse saves",
    "and stack",
    "workspace",
    "arena",
]


def main() -> None:
    """Count everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=PAPER, help="only this one; may be given several times")
    names = parser.parse_args().network or list(PAPER)
    torch.set_num_threads(1)
    static = [row for name in names for row in static_rows(name, PAPER[name])]
    show_table(["network", "static: convolutions", "bytes", "saved", "paper"], static)
    show_table(DYNAMIC, [row for name in names for row in dynamic_rows(name, PAPER[name])])
    arenas = ["network", "our arena, B", "as others lay it out, B", "saved"]
    show_table(arenas, [row for name in names for row in arena_rows(name)])


if __name__ == "__main__":
    main()
