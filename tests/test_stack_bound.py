"""The most stack that a firmware can need: read from machine code by hand, and never below what the twin sees used."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_every_op import random_images, random_network
from tiny_network import write_tiny_export

from trec_dse.codegen import generate, kernel_sources
from trec_dse.errors import DoesNotFitError, ToolchainError
from trec_dse.evaluate import stack_of
from trec_dse.executors import twin
from trec_dse.firmware import build_firmware, write_export
from trec_dse.memory import plan_memory
from trec_dse.resources import data_folder
from trec_dse.stack_bound import Function, _deepest, _outline, _Reader, _with_known_calls, read_functions, stack_bound
from trec_dse.target import Target, load_target

BUILD_ID = "00112233445566aa"
AT = 0x08000100


def read(*halves: int, data: tuple[tuple[int, int], ...] = ()) -> _Reader:
    """A function at `AT` that consists of these 16-bit halves of instructions."""
    code = np.array(halves, dtype="<u2").tobytes()
    reader = _Reader(code, AT, AT + len(code))
    reader.run(data)
    return reader


def board(name: str) -> Target:
    return load_target(data_folder("targets") / f"{name}.toml")


@pytest.mark.parametrize(
    ("halves", "frame"),
    [
        ((0xB510,), 8),  # push {r4, lr}
        ((0xB5F0,), 20),  # push {r4-r7, lr}
        ((0xB084,), 16),  # sub sp, #16
        ((0xE92D, 0x4FF0), 36),  # push.w {r4-r11, lr}
        ((0xF84D, 0xBD04), 4),  # push {r11}
        ((0xED2D, 0x8B04), 16),  # vpush {d8, d9}
        ((0xF5AD, 0x6D80), 1024),  # sub.w sp, sp, #1024
        ((0xF1AD, 0x0D28), 40),  # sub.w sp, sp, #40
        ((0xF2AD, 0x4D04), 1028),  # subw sp, sp, #1028
        ((0xE96D, 0x4502), 8),  # strd r4, r5, [sp, #-8]!
        ((0xE92D, 0x4FF0, 0xB085, 0xB005, 0xE8BD, 0x8FF0), 56),  # with add sp and pop, which give it back
        ((0xBF00, 0x4620, 0x4770), 0),  # nop, mov, bx lr
    ],
)
def test_what_lowers_the_stack_pointer_is_the_frame(halves: tuple[int, ...], frame: int) -> None:
    reader = read(*halves)
    assert reader.frame == frame
    assert not reader.calls


def test_calls_and_jumps_out_of_a_function_have_addresses() -> None:
    assert read(0xF000, 0xF802).calls == [AT + 4 + 4]  # bl two instructions on
    assert read(0xBF00, 0xF7FF, 0xFFFD).calls == [AT + 2 + 4 - 6]  # bl back, to the function itself
    assert read(0xBF00, 0xF7FF, 0xFFFE).calls == []  # bl into the middle of the function: a far jump
    assert read(0xF000, 0xB87E).calls == [AT + 4 + 252]  # b.w far behind the end
    assert read(0xE7FE).calls == []  # b to itself
    assert read(0xBF00, 0xE00A).calls == [AT + 2 + 4 + 20]


def test_a_call_through_a_register_and_a_frame_of_unknown_size_are_noticed() -> None:
    assert read(0x47C0).has_unknown_call  # blx r8
    assert not read(0x4770).has_unknown_call  # bx lr
    assert read(0x44A5).has_unknown_frame  # add sp, r4


def test_a_register_that_holds_a_constant_makes_a_frame_of_known_size() -> None:
    # ldr r4, [pc, #4]; add sp, r4; then b to itself, and the literal -788 behind it
    words = np.array([-788], dtype="<i4").view("<u2").tolist()
    assert read(0x4C01, 0x44A5, 0xE7FE, 0xBF00, *words, data=((AT + 8, AT + 12),)).frame == 788
    # movs r3, #189; lsls r3, r3, #2; add sp, r3: 756 bytes are given back
    given_back = read(0x23BD, 0x009B, 0x449D)
    assert (given_back.frame, given_back.has_unknown_frame) == (0, False)


def test_a_call_through_a_register_reaches_what_is_loaded_into_it() -> None:
    # movw r6, #0x0301; movt r6, #0x0800; blx r6, twice: 0x08000300
    assert read(0xF240, 0x3601, 0xF6C0, 0x0600, 0x47B0, 0x47B0).loaded == [0x08000300]
    address = np.array([0x08000301], dtype="<i4").view("<u2").tolist()
    # ldr r6, [pc, #4]; cmp r0, #6; blx r6; then the literal
    assert read(0x4E01, 0x2806, 0x47B0, 0xE7FE, *address, data=((AT + 8, AT + 12),)).loaded == [0x08000300]
    # the same literal behind what the symbol spans
    code = np.array([0x4E01, 0x2806, 0x47B0, 0xE7FE, *address], dtype="<u2").tobytes()
    reader = _Reader(code, AT, AT + 8)
    reader.run([])
    assert reader.loaded == [0x08000300]
    callee, data = Function("callee", 0x08000300, 4, 40), 0x08000500
    caller = Function("caller", AT, 8, 8, (), has_unknown_call=True, loaded=(data, callee.address))
    found = _with_known_calls(caller, {"caller": caller, "callee": callee})
    assert (found.calls, found.has_unknown_call) == ((callee.address,), False)
    blind = replace(caller, loaded=(data,))
    assert _with_known_calls(blind, {"caller": blind, "callee": callee}).has_unknown_call


@pytest.mark.parametrize(
    "between",
    [
        (0x3C04,),  # subs r4, #4
        (0xBC10,),  # pop {r4}
        (0xCB10,),  # ldmia r3!, {r4}
        (0xF000, 0xF802),  # bl
    ],
)
def test_a_register_that_something_may_have_written_to_holds_no_constant(between: tuple[int, ...]) -> None:
    assert read(0x4C01, *between, 0x44A5).has_unknown_frame


def test_the_stack_around_a_function_is_the_way_to_it_and_the_deepest_way_past_it() -> None:
    root, way = Function("Reset_Handler", 1, 2, 8, (2, 3)), Function("way", 2, 2, 100, (4,))
    past, inner = Function("past", 3, 2, 160), Function("inner", 4, 2, 24, (5,))
    kernel = Function("kernel", 5, 2, 1000)
    functions = {each.address: each for each in (root, way, past, inner, kernel)}
    found = _outline(root, inner, functions)
    assert (found.to, found.elsewhere) == (8 + 100 + 24, 8 + 160)


def test_literals_among_the_code_are_no_instructions() -> None:
    assert read(0x4800, 0x4770, 0xB084, 0xB084, data=((AT + 4, AT + 8),)).frame == 0


def test_the_bound_is_that_of_the_deepest_chain() -> None:
    leaf, deep = Function("leaf", 1, 2, 100), Function("deep", 2, 2, 8, (3,))
    low, root = Function("low", 3, 2, 96), Function("root", 4, 2, 16, (1, 2))
    functions = {each.address: each for each in (leaf, deep, low, root)}
    bound = _deepest(root, functions, (), {})
    assert bound.n_bytes == 16 + 8 + 96
    assert bound.chain == (("root", 16), ("deep", 8), ("low", 96))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"calls": (4,)}, "root -> leaf -> root: a recursion has no bound"),
        ({"has_unknown_call": True}, "leaf calls through a register"),
        ({"has_unknown_frame": True}, "leaf moves its stack by a register"),
        ({"calls": (9,)}, "leaf calls 0x00000009, where no function begins"),
    ],
)
def test_what_has_no_bound_is_told(changed: dict[str, object], said: str) -> None:
    leaf, root = Function("leaf", 1, 2, 100), Function("root", 4, 2, 16, (1,))
    with pytest.raises(ToolchainError, match=said):
        _deepest(root, {1: replace(leaf, **changed), 4: root}, (), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["stm32f469i-disco", "nucleo-g0b1re", "nucleo-f746zg"])
@pytest.mark.parametrize("kind", ["trec_conv2d", "trec_strip_conv2d", "cascade_u4", "gru"])
def test_no_inference_uses_more_than_the_bound_and_most_come_near(name: str, kind: str, tmp_path: Path) -> None:
    target, (_, graph, _) = board(name), random_network(kind, 3)
    files = {**generate(graph, plan_memory(graph), BUILD_ID), "manifest.json": json.dumps({"build_id": BUILD_ID})}
    reserved = stack_of(graph, target)
    write_export(tmp_path / "net", target, files, kernel_sources(graph), stack_bytes=reserved)
    firmware = build_firmware(tmp_path / "net", target)
    bound, of_run = firmware.stack_bound_bytes, firmware.run_stack_bytes
    assert bound is not None and of_run is not None and of_run < bound < firmware.stack_bytes == reserved
    with twin.open(firmware.elf, target) as executor:
        used = max(executor.infer(image).stack_bytes for image in random_images(graph, 2))
    assert used <= bound <= 1.5 * used


def test_a_function_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    write_tiny_export(tmp_path / "tiny", board("stm32f469i-disco"))
    firmware = build_firmware(tmp_path / "tiny", board("stm32f469i-disco"))
    assert {"main", "Reset_Handler", "trec_net_run"} <= {function.name for function in read_functions(firmware.elf)}
    with pytest.raises(ToolchainError, match=r"no function 'nothing'; there are .*main"):
        stack_bound(firmware.elf, "nothing")


def test_a_stack_that_is_too_small_does_not_link(tmp_path: Path) -> None:
    target, (_, graph, _) = board("stm32f469i-disco"), random_network("trec_strip_conv2d", 3)
    files = {**generate(graph, plan_memory(graph), BUILD_ID), "manifest.json": json.dumps({"build_id": BUILD_ID})}
    write_export(tmp_path / "net", target, files, kernel_sources(graph), stack_bytes=512)
    with pytest.raises(DoesNotFitError, match=r"the stack can grow to \d+ bytes, 512 are reserved: Reset_Handler"):
        build_firmware(tmp_path / "net", target)
