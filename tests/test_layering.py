"""Imports point one way: data types import nothing of ours, stages do not import each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "trec_dse"

# A module may import the modules of its own room, of the rooms above it, and the rooms named after it.
ROOMS: list[tuple[str, set[str]]] = [
    (
        "leaves",
        {
            "errors",
            "candidate",
            "recipe",
            "codec",
            "target",
            "results",
            "resources",
            "plugins",
            "durable",
            "protocol",
            "device",
            "rp2040_image",
            "metering",
        },
    ),
    (
        "words of a search",
        {
            "objectives",
            "events",
            "pareto",
            "toolchain",
            "rungs",
            "foresight",
            "gaussian_process",
            "lineage",
            "prospects",
            "settings",
        },
    ),
    ("the intermediate representation", {"graph"}),
    ("TREC and sparse kernels in floating point", {"trec", "sparse"}),
    (
        "operators, networks, data",
        {"ops", "networks", "datasets", "store", "memory", "footprint", "twin", "importance", "latency_fit"},
    ),
    ("what a codegen feeds", {"codegen", "placement", "export_files", "export_projects", "flash_tools", "stack_bound"}),
    ("what a training feeds", {"augment", "checkpoint", "imitate", "reuse"}),
    (
        "stages",
        {
            "search_space",
            "train",
            "prune",
            "qat",
            "four_bits",
            "lower",
            "zeros",
            "quantize",
            "cost",
            "firmware",
            "executors",
            "instruments",
            "validate",
            "plots",
            "influence",
            "pick",
            "storage",
            "sampling",
            "workers",
            "progress",
            "doctor",
            "flash",
            "platformio",
            "calibration",
        },
    ),
    ("who knows the order", {"course", "evaluate", "report", "importing"}),
    (
        "from network to figures",
        {
            "measure",
            "explore",
            "cluster",
            "pools",
            "coordinator",
            "ledger",
            "warm_start",
            "rescore",
            "what_if",
            "profiling",
            "designed",
            "calibrate",
        },
    ),
    ("what may be wrong", {"diagnose"}),
    ("the command line", {"cli", "__main__", "__init__"}),
]
RANK = {name: rank for rank, (_, names) in enumerate(ROOMS) for name in names}
# What a stage shares with another stage is a tool of both, not a step before it.
ALLOWED_AMONG_STAGES = {("executors", "executors"), ("storage", "workers")}
# imports that would make a light command heavy: who may use them
ONLY = {
    "torch_pruning": {"prune", "importance", "reuse"},
    "optuna": {"coordinator", "ledger", "sampling", "storage", "search_space", "rescore", "warm_start"},
    "serial": {"executors", "doctor"},
    "elftools": {"firmware", "stack_bound", "twin"},
    "plotly": {"plots", "report"},
    "triton": {"trec"},
}


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    """The first name below the package: the module or the folder."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    assert room in RANK, f"{room} stands in no room; give it one in this test"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "trec_dse" or len(parts) == 1 or parts[1] == "__version__":
            continue
        other = parts[1]
        assert other in RANK, f"{path.name} imports {name}, which stands in no room"
        if other == room:
            continue
        assert RANK[other] <= RANK[room], f"{room} ({ROOMS[RANK[room]][0]}) imports {other} ({ROOMS[RANK[other]][0]})"
        if ROOMS[RANK[room]][0] == "stages" == ROOMS[RANK[other]][0]:
            assert (room, other) in ALLOWED_AMONG_STAGES, f"stage {room} imports stage {other}"


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_known_to_few(library: str) -> None:
    users = {room_of(path) for path in FILES if any(name.split(".")[0] == library for name in imports_of(path))}
    assert users == ONLY[library]


def test_no_import_cycle_hides_in_the_rooms() -> None:
    edges: dict[str, set[str]] = {}
    for path in FILES:
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        names = {name.removeprefix("trec_dse.") for name in imports_of(path) if name.startswith("trec_dse.")}
        edges[module] = names
    known = set(edges)
    graph = {
        m: {k for n in names for k in (n, n.rpartition(".")[0]) if k in known and k != m} for m, names in edges.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for other in graph[module]:
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())
