"""From the int8 graph and its memory plan to C text; pure: it touches no disk."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trec_dse.graph import INPUT, FieldValue, Int8Array, IntArray, KernelCall, QuantizedGraph
from trec_dse.memory import MemoryPlan
from trec_dse.resources import package_folder

_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "uint16": "uint16_t", "int32": "int32_t"}
_PER_LINE = 20
_PLACING = """\
/* Tables that this folder's start-up code copies out of Flash; where another starts the program they are as others. */
#if defined(__has_include)
#if __has_include("trec_placement.h")
#include "trec_placement.h"
#endif
#endif
#ifndef TREC_PLACED
#define TREC_PLACED
#endif
"""


@dataclass(frozen=True)
class Call:
    """One kernel call in place: the C identifier of its parameters and the node it belongs to."""

    name: str
    node: str
    kernel: KernelCall
    inputs: tuple[str, ...]


def network_calls(graph: QuantizedGraph) -> list[Call]:
    """All kernel calls in the order of execution."""
    shapes, calls = graph.shapes, []
    for node in graph.nodes:
        kernels = node.op.calls(
            [shapes[name] for name in node.inputs], graph.weights[node.name], graph.node_quantization(node)
        )
        for i, kernel in enumerate(kernels):
            suffix = f"_{i}" if len(kernels) > 1 else ""
            sources = tuple(node.inputs[j] for j in kernel.inputs)
            calls.append(Call(f"{_identifier(node.name)}{suffix}", node.name, kernel, sources))
    return calls


def generate(graph: QuantizedGraph, plan: MemoryPlan, build_id: str, placed: Collection[str] = ()) -> dict[str, str]:
    """`network/trec_network.h` and `.c`. The same graph gives the same bytes.

    `placed`: nodes whose tables are to be copied out of Flash at start-up (placement.py).
    """
    calls = network_calls(graph)
    return {
        "network/trec_network.h": _header(graph, plan, build_id),
        "network/trec_network.c": _source(graph, plan, calls, placed),
    }


def generate_answers(images: Int8Array, outputs: Int8Array) -> dict[str, str]:
    """`network/trec_kat.h` and `.c`: images (n, input bytes) and what the network must answer (n, output bytes)."""
    n = len(images)
    arrays = (("input", images.reshape(n, -1), "INPUT"), ("output", outputs.reshape(n, -1), "OUTPUT"))
    header = [
        "/* Known answers: what the network must say to these images, bit for bit. Generated. */",
        "#ifndef TREC_KAT_H",
        "#define TREC_KAT_H",
        "",
        '#include "trec_network.h"',
        "",
        f"#define TREC_KAT_IMAGES {n}",
        "",
        *(f"extern const int8_t trec_kat_{name}[TREC_KAT_IMAGES][TREC_{size}_BYTES];" for name, _, size in arrays),
        "",
        "#endif",
    ]
    source = ["/* Known answers. Generated. */", '#include "trec_kat.h"']
    for name, rows, size in arrays:
        source += ["", f"const int8_t trec_kat_{name}[TREC_KAT_IMAGES][TREC_{size}_BYTES] = {{"]
        source += [f"    {{{', '.join(map(str, row.tolist()))}}}," for row in rows]
        source += ["};"]
    return {"network/trec_kat.h": "\n".join(header) + "\n", "network/trec_kat.c": "\n".join(source) + "\n"}


def kernel_sources(graph: QuantizedGraph) -> list[Path]:
    """The C files of the operators that the network uses, and no other."""
    folders = sorted({package_folder("ops") / node.op.kind for node in graph.nodes})
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in (".c", ".h")]


@dataclass(frozen=True)
class ConstantBytes:
    """Bytes in Flash of a node's tables and of its parameter structs."""

    tables: int
    structs: int

    @property
    def total(self) -> int:
        """Both, each table rounded up to a word as the linker aligns them."""
        return self.tables + self.structs


def constant_bytes(graph: QuantizedGraph) -> dict[str, ConstantBytes]:
    """Per node, the exact constants that `generate` writes; a table used twice counts once."""
    result: dict[str, ConstantBytes] = {node.name: ConstantBytes(0, 0) for node in graph.nodes}
    for call in network_calls(graph):
        tables, structs = result[call.node].tables, result[call.node].structs
        seen: set[int] = set()
        for array in _arrays(tuple(value for _, value in call.kernel.fields)):
            if id(array) not in seen:
                tables += -(-array.nbytes // 4) * 4
                seen.add(id(array))
        structs += -(-sum(_width(value) for _, value in call.kernel.fields) // 4) * 4
        result[call.node] = ConstantBytes(tables, structs)
    return result


def _arrays(value: FieldValue) -> Iterator[IntArray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _arrays(item)


def _width(value: FieldValue) -> int:
    """Bytes of a member: a pointer or an int takes a word."""
    if isinstance(value, tuple):
        return sum(_width(item) for item in value)
    return 1 if isinstance(value, np.int8 | np.uint8) else 4


def _identifier(name: str) -> str:
    text = "".join(c if c.isalnum() else "_" for c in name)
    return f"n{text}" if text[0].isdigit() else text


def _counters(graph: QuantizedGraph) -> int:
    return sum(call.kernel.counts_clusters for call in network_calls(graph))


def _header(graph: QuantizedGraph, plan: MemoryPlan, build_id: str) -> str:
    shapes, n_layers = graph.shapes, _counters(graph)
    numbers = {
        "INPUT_BYTES": graph.bytes_of(INPUT),
        "OUTPUT_BYTES": graph.bytes_of(graph.output),
        "ARENA_BYTES": plan.size,
        "INPUT_OFFSET": plan.offset(INPUT),
        "OUTPUT_OFFSET": plan.offset(graph.output),
        "N_TREC_LAYERS": n_layers,
        "N_COUNTERS": max(1, n_layers),
    }
    lines = [
        "/* The network: int8 in, int8 out, all memory in one arena. Generated. */",
        "#ifndef TREC_NETWORK_H",
        "#define TREC_NETWORK_H",
        "",
        "#include <stdint.h>",
        "",
        f'#define TREC_BUILD_ID "{build_id}"',
        *(f"#define TREC_{name} {value}" for name, value in numbers.items()),
        "",
        "/* Input of shape "
        + _shape(shapes[INPUT])
        + " at TREC_INPUT_OFFSET, output of shape "
        + _shape(shapes[graph.output])
        + " at TREC_OUTPUT_OFFSET. */",
        "extern uint8_t trec_arena[TREC_ARENA_BYTES];",
        "",
        "/* After a run: clusters of each TREC layer, summed over its slices. */",
        "extern uint32_t trec_n_clusters[TREC_N_COUNTERS];",
        "",
        "/* One inference, from the input in the arena to the output in the arena; the input is lost. */",
        "void trec_net_run(void);",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


@dataclass
class _Tables:
    """Const arrays, each written once however often it is used. `mark`: what is written behind the next ones' names."""

    lines: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    mark: str = ""

    def name(self, array: IntArray, wanted: str) -> str:
        """The C name of `array`, which is written out on first use."""
        if id(array) not in self.names:
            self.names[id(array)] = wanted
            values = array.reshape(-1).tolist()
            rows = [", ".join(map(str, values[i : i + _PER_LINE])) for i in range(0, len(values), _PER_LINE)]
            # kernels load words; a compiler may put bytes anywhere
            aligned = " __attribute__((aligned(4)))" if array.itemsize < 4 else ""
            self.lines.append(
                f"static const {_TYPES[array.dtype.name]} {wanted}[{len(values)}]{self.mark}{aligned} = {{"
            )
            self.lines += [f"    {row}," for row in rows]
            self.lines += ["};", ""]
        return self.names[id(array)]


def _value(value: FieldValue, wanted: str, tables: _Tables) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(_value(v, f"{wanted}_{i}", tables) for i, v in enumerate(value)) + "}"
    if isinstance(value, np.ndarray):
        return tables.name(value, wanted) if value.size else "NULL"
    return str(value)


def _source(graph: QuantizedGraph, plan: MemoryPlan, calls: Sequence[Call], placed: Collection[str]) -> str:
    tables, structs = _Tables(), []
    for call in calls:
        tables.mark = " TREC_PLACED" if call.node in placed else ""
        structs += _struct(call, tables)
    counter = iter(range(_counters(graph)))
    statements = [_statement(call, plan, counter) for call in calls]
    headers = sorted({path.name for path in kernel_sources(graph) if path.suffix == ".h"})
    lines = [
        "/* The network: weights, parameters and the order of the kernels. Generated. */",
        '#include "trec_network.h"',
        "",
        *(f'#include "{name}"' for name in headers),
        "",
        *([_PLACING] if placed else []),
        "uint8_t trec_arena[TREC_ARENA_BYTES] __attribute__((aligned(8)));",
        "uint32_t trec_n_clusters[TREC_N_COUNTERS];",
        "",
        *tables.lines,
        *structs,
        "static int8_t *at(int32_t offset)",
        "{",
        "    return (int8_t *)trec_arena + offset;",
        "}",
        "",
        "void trec_net_run(void)",
        "{",
        *statements,
        "}",
    ]
    return "\n".join(lines) + "\n"


def _struct(call: Call, tables: _Tables) -> list[str]:
    lines = [f"static const {call.kernel.struct} {call.name} = {{"]
    for member, value in call.kernel.fields:
        lines.append(f"    .{member} = {_value(value, f'{call.name}_{member}', tables)},")
    return [*lines, "};", ""]


def _statement(call: Call, plan: MemoryPlan, counter: Iterator[int]) -> str:
    arguments = [f"&{call.name}", *(f"at({plan.offset(name)})" for name in call.inputs)]
    if call.kernel.scratch:
        arguments.append(f"at({plan.offset(call.node, scratch=True)})")
    arguments.append(f"at({plan.offset(call.node)})")
    result = f"trec_n_clusters[{next(counter)}] = " if call.kernel.counts_clusters else ""
    return f"    {result}{call.kernel.function}({', '.join(arguments)});"


def sources_by_name(files: Mapping[str, str]) -> list[str]:
    """The C files among generated ones, sorted."""
    return sorted(name for name in files if name.endswith(".c"))
