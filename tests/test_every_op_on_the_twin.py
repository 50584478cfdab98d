"""Every core's header gives portable.h's integers: each primitive against its definition, and whole operators."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_every_op import BUILD_ID, OPS, oracle, random_images, random_network
from twin_programs import M0_PLUS, M3, M4, M7

from trec_dse.codegen import generate, kernel_sources
from trec_dse.evaluate import stack_of
from trec_dse.executors import twin
from trec_dse.firmware import build_firmware, write_export
from trec_dse.graph import Int8Array, QuantizedGraph
from trec_dse.memory import plan_memory
from trec_dse.target import Target

C_FOLDER = Path(__file__).parent / "c"
BOARDS = pytest.mark.parametrize("target", [M4, M7, M3, M0_PLUS], ids=lambda target: target.core)
SMALL = replace(M4, optimize="size")
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 40))]
MANIFEST = {"manifest.json": json.dumps({"build_id": BUILD_ID})}
PRIMITIVES = (
    "dot_s8",
    "dot_s16_s8",
    "dot_1x4",
    "multiply",
    "widen",
    "add_row",
    "sum_terms",
    "requantize_rows",
    "max_s8",
    "multiply_narrow",
    "add_parts",
    "round_high",
    "add_words",
    "depthwise_fours",
)
# these only return their results; all others change the numbers that the harness watches
SILENT = {"dot_s8", "dot_s16_s8", "round_high"}


def on_twin(graph: QuantizedGraph, images: Int8Array, target: Target, folder: Path) -> Int8Array:
    """What the firmware of a network answers to each image."""
    files = {**generate(graph, plan_memory(graph), BUILD_ID), **MANIFEST}
    write_export(folder / "firmware", target, files, kernel_sources(graph), stack_bytes=stack_of(graph, target))
    return asked(folder / "firmware", images, target)


def asked(folder: Path, images: Int8Array, target: Target) -> Int8Array:
    """What the firmware of an export folder answers to each image."""
    with twin.open(build_firmware(folder, target).elf, target, build_id=BUILD_ID) as executor:
        return np.stack([executor.infer(image).output.reshape(-1) for image in images])


@BOARDS
def test_every_primitive_equals_its_portable_definition(target: Target, tmp_path: Path) -> None:
    files = {f"network/trec_network.{end}": (C_FOLDER / f"arch_network.{end}").read_text() for end in ("h", "c")}
    seeds = np.random.default_rng(5).integers(-128, 128, (10, 4)).astype(np.int8)
    write_export(tmp_path / "firmware", target, {**files, **MANIFEST}, [])
    answers = asked(tmp_path / "firmware", seeds, target).reshape(10, len(PRIMITIVES), 2).astype(np.uint8)
    wrong = dict(zip(PRIMITIVES, answers[:, :, 0].sum(axis=0).tolist(), strict=True))
    assert wrong == dict.fromkeys(PRIMITIVES, 0)
    changed = {name for name, flag in zip(PRIMITIVES, answers[:, :, 1].min(axis=0), strict=True) if flag}
    assert changed == set(PRIMITIVES) - SILENT


@BOARDS
@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_board_gives_the_oracle_s_integers(kind: str, seed: int, target: Target, tmp_path: Path) -> None:
    _, graph, _ = random_network(kind, 400 + seed)
    images = random_images(graph, 3)
    assert np.array_equal(on_twin(graph, images, target, tmp_path), oracle(graph, images))


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_compiled_for_size_it_gives_the_same_integers(kind: str, seed: int, tmp_path: Path) -> None:
    _, graph, _ = random_network(kind, 500 + seed)
    images = random_images(graph, 1)
    assert np.array_equal(on_twin(graph, images, SMALL, tmp_path), oracle(graph, images))
