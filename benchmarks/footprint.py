"""Measure what the runtime and each kernel take in Flash and on the stack, and write trec_dse/footprint.json.

For every board family, compiler and choice of `--optimize`, firmwares with few kernels are linked and their symbols are
read; then random candidates are linked to fit what a call costs. What a kernel compiled for size takes in cycles beside
one compiled for speed is seen on the twin, in the largest of small networks, once for every core. Entries of compilers
that are not installed are kept. Run it after any change of the C, the flags or a compiler.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import sys
from collections.abc import Sequence

import numpy as np
import torch
from common import linked, on_twin, random_candidates

from trec_dse import codec, datasets, plugins
from trec_dse.codegen import constant_bytes, network_calls
from trec_dse.errors import DoesNotFitError, ToolchainError
from trec_dse.evaluate import untrained_graph
from trec_dse.firmware import build_firmware, code_sizes, speak_text
from trec_dse.footprint import BASE, TABLE, Footprint, load_footprints
from trec_dse.graph import INPUT, QuantizedGraph
from trec_dse.quantize import quantize
from trec_dse.resources import data_folder
from trec_dse.stack_bound import StackOutline, stack_bound, stack_outline
from trec_dse.target import Optimize, Target, load_target
from trec_dse.toolchain import Compiler, find_target_compiler

N_SEEDS, N_FITTED, N_LARGEST = 12, 10, 1
CHOICES: tuple[Optimize, ...] = ("speed", "size")
RUN = "trec_net_run"
STACK_BYTES = 4096  # of the firmwares that are measured: more than any needs


@dataclasses.dataclass(frozen=True)
class Linked:
    """A linked network: symbols of runtime and kernels, and what a model of its size is fitted to."""

    functions: frozenset[str]
    symbols: dict[str, int]
    flash_bytes: int
    constants: int
    n_arguments: int
    static_bytes: int
    stack: dict[str, int]
    outline: StackOutline


def link(graph: QuantizedGraph, target: Target, compiler: Compiler) -> Linked:
    """Link `graph` for `target` and tell its own constants from the rest."""
    calls = network_calls(graph)
    functions = {call.kernel.function for call in calls}
    with linked(graph, target, compiler, stack_bytes=STACK_BYTES) as firmware:
        sizes = code_sizes(firmware)
        stack = {function: stack_bound(firmware.elf, function).n_bytes for function in functions}
        outline = stack_outline(firmware.elf, RUN)
    own = tuple(f"{call.name}_" for call in calls)
    names = {call.name for call in calls}
    symbols = {
        symbol: size
        for symbol, size in sizes.items()
        if symbol not in names and not symbol.startswith((*own, "(")) and symbol not in ("trec_net_run", "at")
    }
    return Linked(
        functions=frozenset(functions),
        symbols=symbols,
        flash_bytes=firmware.flash_bytes,
        constants=sum(item.total for item in constant_bytes(graph).values()),
        n_arguments=sum(2 + len(call.inputs) + call.kernel.scratch for call in calls),
        static_bytes=firmware.static_bytes - 4 * max(1, sum(call.kernel.counts_clusters for call in calls)),
        stack=stack,
        outline=outline,
    )


def small_graphs(kinds: Sequence[str], *, every: bool = False) -> list[QuantizedGraph]:
    """Networks of one operator each that together hold every kernel of these operators; or as many as there are."""
    graphs = []
    for kind in kinds:
        seen: set[str] = set()
        for seed in range(N_SEEDS):
            random = np.random.default_rng(seed)
            graph = importlib.import_module(f"trec_dse.ops.{kind}.cases").random_graph(random)
            images = torch.from_numpy(random.standard_normal((2, *graph.input_shape))).float()
            quantized = quantize(graph, images)
            functions = {call.kernel.function for call in network_calls(quantized)}
            if every or not functions <= seen:
                graphs.append(quantized)
                seen |= functions
    return graphs


def slowness(target: Target, compiler: Compiler) -> dict[str, float]:
    """Kernel function -> cycles compiled for size over cycles compiled for speed."""
    found: dict[str, float] = {}
    for kind in plugins.names("ops"):
        largest = sorted(small_graphs([kind], every=True), key=macs)[-N_LARGEST:]
        cycles = []
        for graph in largest:
            image = np.random.default_rng(0).integers(-128, 128, graph.bytes_of(INPUT)).astype(np.int8)
            for optimize in CHOICES:
                board = dataclasses.replace(target, optimize=optimize)
                with on_twin(graph, board, compiler, stack_bytes=STACK_BYTES) as (_, executor):
                    cycles.append(executor.infer(image).cycles)
        ratios = [size / speed for speed, size in zip(cycles[::2], cycles[1::2], strict=True)]
        functions = {call.kernel.function for graph in largest for call in network_calls(graph)}
        own = {function for function in functions if function.startswith(f"trec_{kind}_")}
        found |= dict.fromkeys(own, round(float(np.exp(np.mean(np.log(ratios)))), 3))
    return found


def macs(graph: QuantizedGraph) -> int:
    """Multiply-accumulates of the whole network."""
    return sum(node.op.macs(*(graph.shapes[name] for name in node.inputs)) for node in graph.nodes)


def measure(target: Target, compiler: Compiler) -> Footprint:
    """The footprint of one board family with one compiler."""
    graphs = small_graphs(plugins.names("ops"))
    firmwares = sorted((link(graph, target, compiler) for graph in graphs), key=lambda item: len(item.functions))
    base = {s: size for s, size in firmwares[0].symbols.items() if all(s in other.symbols for other in firmwares)}
    symbols = {BASE: base}
    for item in firmwares:
        known = set(base).union(*(symbols[f] for f in item.functions if f in symbols))
        for function in item.functions - symbols.keys():
            symbols[function] = {s: size for s, size in item.symbols.items() if s not in known}
    static = max(item.static_bytes for item in firmwares)
    draft = Footprint(compiler.name, target.core, target.platform, symbols, 0.0, 0.0, static, {}, 0, target.optimize)
    fitted = random_firmwares(target, compiler)
    rest = [item.flash_bytes - item.constants - draft.code_bytes(item.functions, 0) for item in fitted]
    slope, intercept = np.polyfit([item.n_arguments for item in fitted], rest, 1)
    left = [r - slope * item.n_arguments - intercept for r, item in zip(rest, fitted, strict=True)]
    print(
        f"{target.platform} {compiler.version}: call {slope:.2f} B per argument, {intercept:.1f} B at all;"
        f" largest residual {max(map(abs, left)):.1f} B of {min(item.flash_bytes for item in fitted)} B and more",
        file=sys.stderr,
    )
    stack, elsewhere = deepest([*firmwares, *fitted], text_outline(graphs[0], target, compiler))
    return dataclasses.replace(
        draft, call_base=round(intercept, 2), call_argument=round(slope, 2), stack=stack, stack_elsewhere=elsewhere
    )


def random_firmwares(target: Target, compiler: Compiler) -> list[Linked]:
    """Random candidates of two spaces, of which those that the board has no room for are left out."""
    data, found = {name: datasets.placeholder(name) for name in ("digits", "cifar10")}, []
    for space in ("digits_tiny", "cifar10_cifarnet"):
        for candidate in random_candidates(space, N_FITTED):
            with contextlib.suppress(DoesNotFitError):
                found.append(link(untrained_graph(candidate, data[candidate.dataset]), target, compiler))
    return found


def deepest(firmwares: Sequence[Linked], text: StackOutline) -> tuple[dict[str, int], int]:
    """The most stack of every kernel and of the way to it, in any of these firmwares; and elsewhere."""
    outlines = [text, *(item.outline for item in firmwares)]
    stack = {BASE: max(outline.to for outline in outlines)}
    for item in firmwares:
        stack |= {function: max(n, stack.get(function, 0)) for function, n in item.stack.items()}
    return stack, max(outline.elsewhere for outline in outlines)


def text_outline(graph: QuantizedGraph, target: Target, compiler: Compiler) -> StackOutline:
    """The stack of a firmware that answers text commands, around its network."""
    with linked(graph, target, compiler, stack_bytes=STACK_BYTES) as firmware:
        speak_text(firmware.folder, "ic01")
        return stack_outline(build_firmware(firmware.folder, target, compiler).elf, RUN)


def with_kernels(entry: Footprint, kinds: Sequence[str], target: Target, compiler: Compiler) -> Footprint:
    """`entry` with the kernels of these operators measured anew, all else as it is."""
    symbols, stack = dict(entry.symbols), dict(entry.stack)
    starts = tuple(f"trec_{kind}_" for kind in kinds)
    for graph in small_graphs(kinds):
        found = link(graph, target, compiler)
        functions = {function for function in found.functions if function.startswith(starts)}
        # what else stands around the operators in these networks is not theirs
        known = set(entry.symbols[BASE]).union(*(entry.symbols[f] for f in found.functions - functions))
        own = {symbol: size for symbol, size in found.symbols.items() if symbol not in known}
        symbols |= dict.fromkeys(functions, own)
        stack |= {function: found.stack[function] for function in functions}
    return dataclasses.replace(entry, symbols=symbols, stack=stack)


def main() -> None:
    """Measure everything that is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", help="only this board's family; may be given several times")
    parser.add_argument("--op", action="append", help="only this operator's kernels; may be given several times")
    parser.add_argument("--optimize", choices=CHOICES, action="append", help="only what is compiled so")
    args = parser.parse_args()
    wanted = args.target
    entries = {(e.compiler, e.core, e.platform, e.optimize): e for e in load_footprints()} if TABLE.is_file() else {}
    targets: dict[tuple[str, str, str], Target] = {}
    for path in sorted(data_folder("targets").glob("*.toml")):
        target = load_target(path)
        if wanted is not None and target.name not in wanted:
            continue
        for choice in args.optimize or CHOICES:
            targets[target.core, target.platform, choice] = dataclasses.replace(target, optimize=choice)
    for name in ("gcc", "zig"):
        try:
            compiler = find_target_compiler(name)
        except ToolchainError as problem:
            print(problem, file=sys.stderr)
            continue
        slower: dict[str, dict[str, float]] = {}
        for (core, platform, _), target in targets.items():
            key = (name, core, platform, target.optimize)
            known = entries.get(key)
            if args.op and known is not None:
                entry = with_kernels(known, args.op, target, compiler)
            else:
                entry = measure(target, compiler)
                if target.optimize == "size":
                    slower[core] = slower.get(core) or slowness(target, compiler)
                    entry = dataclasses.replace(entry, slower=slower[core])
            entries[key] = entry
            total = sum(entry.symbols[BASE].values())
            title = f"runtime {platform} {name} for {target.optimize}"
            print(json.dumps({"name": title, "value": total, "unit": "B", "goal": None, "met": None}))
            TABLE.write_text(json.dumps(codec.unstructure(list(entries.values())), indent=1) + "\n")


if __name__ == "__main__":
    main()
