"""Cycle counts of programs that are short enough to be counted by hand."""

from pathlib import Path

import pytest
from twin_programs import M0_PLUS, M3, M4, M7, assemble, execute, without_wait_states

from trec_dse.target import Target
from trec_dse.twin.counter import CounterMaker
from trec_dse.twin.hooks import NativeCounter, PythonCounter

RAM = "mov.w r1, #0x20000000\n"  # 1 cycle

# Program -> raw cycles on a Cortex-M4 with Flash as fast as the core.
M4_CASES = {
    "three nops": ("nop\n nop\n nop", 3),
    # 1 + 1000 * (1 + 1 + 1 + 1) + 999 branches taken
    "a nop and subtract loop": ("movw r0, #1000\n loop: nop\n nop\n subs r0, #1\n bne loop", 5000),
    "a load and its use": (RAM + "ldr r0, [r1]\n add r0, r0, #1", 1 + 2 + 1),
    "three loads in a row": (RAM + "nop\n ldr r0, [r1]\n ldr r2, [r1, #4]\n ldr r3, [r1, #8]", 1 + 1 + 2 + 1 + 1),
    "a load through a loaded address": ("mov.w r1, #0x08000000\n ldr r0, [r1]\n ldr r2, [r0]", 1 + 2 + 2),
    "a store": (RAM + "nop\n str r1, [r1]", 1 + 1 + 1),
    "a store behind a load": (RAM + "nop\n ldr r0, [r1]\n str r0, [r1, #4]", 1 + 1 + 2 + 0),
    "a store with two address registers": (RAM + "movs r0, #4\n str r1, [r1, r0]", 1 + 1 + 2),
    "four loads at once": (RAM + "nop\n ldm r1, {r2, r3, r4, r5}", 1 + 1 + 5),
    "a double word": (RAM + "nop\n ldrd r2, r3, [r1]", 1 + 1 + 3),
    "push and pop": ("push {r4, r5, lr}\n pop {r4, r5, lr}", 4 + 4),
    "multiply and divide": ("movs r0, #9\n mul r1, r0, r0\n smlad r2, r0, r0, r1\n udiv r3, r1, r0", 1 + 1 + 1 + 6),
    "a folded IT": ("movs r0, #0\n cmp r0, #1\n it ne\n addne r0, #1", 1 + 1 + 0 + 1),
    "a branch not taken": ("movs r0, #1\n cmp r0, #1\n bne done\n nop", 1 + 1 + 1 + 1),
    # bl, taken; bx lr, taken and indirect, to a 16-bit instruction
    "call and return": ("bl f\n nop\n b done\n .align 2\n f: bx lr", (1 + 1) + (1 + 1 + 1) + 1 + 1),
    # 0x08000010 b, 0x08000012 skipped, 0x08000014 skipped, target at 0x08000016
    "a wide target across two words": ("b t\n nop\n nop\n t: add.w r0, r0, #1", 1 + 1 + 1 + 1),
    "an aligned wide target": ("b t\n nop\n t: add.w r0, r0, #1", 1 + 1 + 1),
    "an unaligned load": (RAM + "nop\n ldr r0, [r1, #1]", 1 + 1 + 2 + 1),
    "float": (RAM + "vldr s0, [r1]\n vadd.f32 s1, s0, s0\n vmla.f32 s1, s0, s0", 1 + 2 + 1 + 3),
}


@pytest.mark.parametrize("name", M4_CASES)
def test_m4_cycles_are_those_counted_by_hand(name: str, tmp_path: Path) -> None:
    program, cycles = M4_CASES[name]
    assert execute(program, without_wait_states(M4), tmp_path).counter.cycles == cycles


def test_flash_lines_cost_their_wait_states_once(tmp_path: Path) -> None:
    # From 0x08000010: 4 + 2 + 2 + 2 + 2 bytes, within one line of 16; the M4 board has 5 wait states.
    machine = execute("movw r0, #1000\n loop: nop\n nop\n subs r0, #1\n bne loop", M4, tmp_path)
    assert machine.counter.cycles == 5000 + 5


def test_a_loop_larger_than_the_accelerator_misses_every_line(tmp_path: Path) -> None:
    # 65 lines of 8 nops and a loop end in the last: all 65 miss in each of 3 passes of a 64-line memory.
    body = "movs r0, #3\n loop: .rept 516\n nop\n .endr\n subs r0, #1\n bne loop"
    cycles = 1 + 3 * (516 + 2) + 2
    assert execute(body, M4, tmp_path).counter.cycles == cycles + 3 * 65 * 5


def test_weights_in_flash_cost_one_line_fill_per_16_bytes(tmp_path: Path) -> None:
    # Words 0, 4, 8 ... 60 from 0x08000000: 16 loads, 4 lines; code is one line at 0x08000010.
    program = "mov.w r1, #0x08000000\n movs r0, #16\n nop\n loop: ldr r2, [r1], #4\n subs r0, #1\n bne loop"
    cycles = 1 + 1 + 1 + 16 * (2 + 1 + 1) + 15
    assert execute(program, M4, tmp_path).counter.cycles == cycles + 4 * 5 + 1 * 5


M7_CASES = {
    "four independent adds": ("adds r0, #1\n add r1, r1, #1\n add r2, r2, #1\n add r3, r3, #1", 2),
    "four dependent adds": ("add r0, r0, #1\n add r0, r0, #1\n add r0, r0, #1\n add r0, r0, #1", 4),
    "two loads at once": ("mov.w r1, #0x20000000\n nop\n ldr r0, [r1]\n ldr r2, [r1, #4]", 1 + 1),
    "one store a cycle": ("mov.w r1, #0x20000000\n nop\n str r0, [r1]\n str r0, [r1, #4]", 1 + 2),
    # A chain of accumulations is one a cycle; the first product waits for nothing.
    "accumulate": ("smlad r0, r1, r2, r0\n smlad r0, r1, r2, r0\n smlad r0, r1, r2, r0", 3),
    "a product and its use": ("mul r0, r1, r2\n add r0, r0, #1", 2 + 1),
    "a load and a multiplication": ("mov.w r1, #0x20000000\n nop\n ldr r0, [r1]\n mul r2, r0, r1", 1 + 2 + 1),
}


@pytest.mark.parametrize("name", M7_CASES)
def test_m7_cycles_are_those_counted_by_hand(name: str, tmp_path: Path) -> None:
    program, cycles = M7_CASES[name]
    machine = execute(program, M7, tmp_path)
    assert machine.counter.cycles - _code_lines(program, tmp_path) * 4 == cycles


def test_m7_loops_are_predicted_after_two_surprises(tmp_path: Path) -> None:
    # nop and nop, subs and bne: 2 cycles a pass. The first pass is a block of its own, with movw: 3 cycles.
    # Both blocks start as "not taken": one surprise for the first, two for the loop's, one when it ends.
    program = "movw r0, #1000\n loop: nop\n nop\n subs r0, #1\n bne loop\n nop"
    machine = execute(program, M7, tmp_path)
    assert machine.counter.cycles == 3 + 999 * 2 + 1 + (1 + 2 + 1) * 6 + _code_lines(program, tmp_path) * 4


MIXED = """
    ldr r1, =0x20000001
    movw r0, #300
loop:
    ldr r2, [r1]
    strb r2, [r1, #7]
    tst r0, #3
    ite eq
    addeq r3, r3, #1
    ldrne r4, [r1, #3]
    bl f
    ldr r5, =0x08000011
    ldrh r6, [r5]
    tst r0, #5
    beq skip
    nop
skip:
    subs r0, #1
    bne loop
    b done
f:
    push {r4, lr}
    add.w r4, r4, r3, lsl #2
    pop {r4, pc}
"""


SMALL_MIXED = """
    mov r1, sp
    subs r1, #64
    movs r0, #200
loop:
    ldrb r2, [r1]
    strb r2, [r1, #7]
    bl f
    ldr r5, =0x08000010
    ldrh r6, [r5]
    lsls r3, r0, #30
    beq skip
    nop
skip:
    subs r0, #1
    bne loop
    b done
f:
    push {r4, lr}
    adds r4, r4, r3
    pop {r4, pc}
"""


def test_c_and_python_hooks_count_the_same_with_prefetch(tmp_path: Path) -> None:
    makers: tuple[CounterMaker, ...] = (NativeCounter, PythonCounter)
    counts = [execute(SMALL_MIXED, M0_PLUS, tmp_path, make).counter for make in makers]
    assert counts[0].n_instructions == counts[1].n_instructions > 200 * 12
    assert counts[0].cycles == counts[1].cycles > counts[0].n_instructions


@pytest.mark.parametrize("target", [M3, M4, M7], ids=lambda target: str(target.core))
def test_c_and_python_hooks_count_the_same(target: Target, tmp_path: Path) -> None:
    makers: tuple[CounterMaker, ...] = (NativeCounter, PythonCounter)
    counts = [execute(MIXED, target, tmp_path, make).counter for make in makers]
    assert counts[0].n_instructions == counts[1].n_instructions > 300 * 12
    assert counts[0].cycles == counts[1].cycles > 0


def test_the_m4_rules_are_stretched_by_what_they_leave_out(tmp_path: Path) -> None:
    machine = execute("movw r0, #1000\n loop: nop\n nop\n subs r0, #1\n bne loop", without_wait_states(M4), tmp_path)
    assert machine.clock.cycles() == 5390  # 5000 * 1.078


M3_CASES = {
    "multiply": ("movs r0, #9\n mul r1, r0, r0\n mla r2, r0, r0, r1\n mls r3, r0, r0, r1", 1 + 1 + 2 + 2),
    "long products": ("smull r0, r1, r2, r3\n smlal r0, r1, r2, r3\n umull r0, r1, r2, r3", 4 + 5 + 4),
    "loads in a row, as on an M4": (RAM + "nop\n ldr r0, [r1]\n ldr r2, [r1, #4]", 1 + 1 + 2 + 1),
    "a nop and subtract loop": ("movw r0, #1000\n loop: nop\n nop\n subs r0, #1\n bne loop", 5000),
}


@pytest.mark.parametrize("name", M3_CASES)
def test_m3_cycles_are_those_counted_by_hand(name: str, tmp_path: Path) -> None:
    program, cycles = M3_CASES[name]
    assert execute(program, without_wait_states(M3), tmp_path).counter.cycles == cycles


# ARM DDI 0484, table 3-1
M0_PLUS_CASES = {
    "three nops": ("nop\n nop\n nop", 3),
    "a nop and subtract loop": ("movs r0, #200\n loop: nop\n nop\n subs r0, #1\n bne loop", 1 + 200 * 4 + 199),
    "loads and stores": ("mov r1, sp\n subs r1, #32\n ldr r0, [r1]\n ldrb r2, [r1]\n str r0, [r1]", 1 + 1 + 2 + 2 + 2),
    "several at once": ("mov r1, sp\n subs r1, #32\n ldm r1!, {r2, r3, r4}\n push {r2, r3}", 1 + 1 + 4 + 3),
    "multiply": ("movs r0, #9\n muls r0, r0", 1 + 1),
    "a branch not taken": ("movs r0, #1\n cmp r0, #1\n bne done\n nop", 1 + 1 + 1 + 1),
    "call and return": ("bl f\n nop\n b done\n .align 2\n f: bx lr", 3 + 2 + 1 + 1),
    # the branch to `done` is left before it is taken; push 1 + 2; pop with the program counter 3 + 2
    "call with a frame": ("bl f\n nop\n b done\n .align 2\n f: push {r4, lr}\n pop {r4, pc}", 3 + 3 + 5 + 1 + 1),
    "a barrier": ("dsb", 3),
}


@pytest.mark.parametrize("name", M0_PLUS_CASES)
def test_m0plus_cycles_are_those_counted_by_hand(name: str, tmp_path: Path) -> None:
    program, cycles = M0_PLUS_CASES[name]
    machine = execute(program, without_wait_states(M0_PLUS), tmp_path)
    assert machine.counter.cycles == machine.clock.cycles() == cycles


def test_prefetch_hides_the_wait_states_of_straight_code_only(tmp_path: Path) -> None:
    # From 0x08000010: 16 nops are 4 lines of 8 bytes, of which only the first is waited for (2 wait states).
    straight = "\n".join(["nop"] * 16)
    assert execute(straight, M0_PLUS, tmp_path).counter.cycles == 16 + 2
    # A jump over a line is not read ahead: the first line and the target's.
    assert execute("b t\n .rept 11\n nop\n .endr\n t: nop", M0_PLUS, tmp_path).counter.cycles == 2 + 1 + 2 * 2


def test_a_constant_from_flash_waits_on_an_m0plus(tmp_path: Path) -> None:
    # The vector table's words 0 and 1 share a line of 8 bytes; words 2 and 3 are the next one: two fills in all.
    program = "movs r1, #8\n lsls r1, r1, #24\n ldr r2, [r1]\n ldr r3, [r1, #4]\n ldr r4, [r1, #8]\n ldr r5, [r1, #12]"
    assert execute(program, M0_PLUS, tmp_path).counter.cycles == 2 + 4 * 2 + 2 * 2 + 2


def _code_lines(program: str, folder: Path) -> int:
    """32-byte Flash lines that the code touches, from 0x08000010 to the last byte before `done`."""
    end = assemble(program, M7, folder).address_of("done")
    return (end - 1) // 32 - 0x0800_0010 // 32 + 1
