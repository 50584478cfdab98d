"""A profile books every cycle once: to the call of the run that it belongs to, and to the function that spent it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from twin_programs import M0_PLUS, M3, M4, M7, assemble, without_wait_states

from trec_dse.calibrate import linked, profile_record
from trec_dse.calibration import context_of, samples
from trec_dse.codegen import network_calls
from trec_dse.designed import asked_of, capped_layer, clustered_layer, random_layer, smooth_image
from trec_dse.errors import DeviceError
from trec_dse.graph import QuantizedGraph
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.profiling import LayerProfile, NetworkProfile, profile_network
from trec_dse.target import Target
from trec_dse.toolchain import find_target_compiler
from trec_dse.twin.counter import Counter, CounterMaker
from trec_dse.twin.hooks import NativeCounter, PythonCounter
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import Machine
from trec_dse.twin.places import Places, Tally
from trec_dse.twin.profile import profile

COUNTERS: tuple[CounterMaker, ...] = (NativeCounter, PythonCounter)


def function(name: str, body: str) -> str:
    return f".thumb_func\n .type {name}, %function\n {name}:\n {body}\n .size {name}, . - {name}\n"


PROGRAM = (
    "bl run\n nop\n b done\n"
    + function("run", "push {r4, lr}\n bl f\n nop\n bl g\n nop\n pop {r4, pc}")
    + function("f", "nop\n nop\n bx lr")
    + function("g", "nop\n bx lr")
)


def watched(program: str, target: Target, folder: Path, make: CounterMaker) -> tuple[Counter, Places, dict[str, int]]:
    """A counter that has watched `run` make two calls, and the numbers of the functions."""
    image = assemble(program, target, folder)
    machine = Machine(image, target, MemoryLine(), make)
    places = Places.of(image, "run", 2)
    machine.counter.watch(places)
    machine.run(until=image.address_of("done"))
    return machine.counter, places, {each.name: places.function_at(each.address) for each in image.functions}


@pytest.mark.parametrize("make", COUNTERS)
def test_cycles_are_booked_as_counted_by_hand(make: CounterMaker, tmp_path: Path) -> None:
    counter, _, number = watched(PROGRAM, without_wait_states(M4), tmp_path, make)
    # a branch that is taken costs one cycle more, one through a register two; both are booked to where it leads
    assert counter.tallies() == {
        (0, number["Reset_Handler"]): Tally(1 + (2 + 1 + 1), 3),  # bl; then back from run: nop, b
        (1, number["run"]): Tally(1 + 3 + 1, 2),  # push of two, bl
        (1, number["f"]): Tally(1 + 1 + 1 + 1, 3),
        (2, number["run"]): Tally(2 + 1 + 1, 2),  # nop, bl
        (2, number["g"]): Tally(1 + 1 + 1, 2),
        (3, number["run"]): Tally(2 + 1 + 3, 2),  # nop, pop of two: what follows the last call
    }


@pytest.mark.parametrize("target", [M0_PLUS, M3, M4, M7], ids=lambda target: str(target.core))
def test_c_and_python_hooks_book_the_same_and_all_of_it(target: Target, tmp_path: Path) -> None:
    loads = PROGRAM.replace("f:\n nop\n nop", "f:\n movs r1, #8\n lsls r1, r1, #24\n ldr r2, [r1]\n ldrb r3, [r1, #1]")
    found = [watched(loads, target, tmp_path, make)[0] for make in COUNTERS]
    assert found[0].tallies() == found[1].tallies()
    total = sum(found[0].tallies().values(), Tally())
    assert (total.cycles, total.n_instructions) == (found[0].cycles, found[0].n_instructions)
    assert total.code_stalls > 0 and total.data_stalls > 0


def test_a_counter_that_nobody_asked_books_nothing(tmp_path: Path) -> None:
    image = assemble("nop", M4, tmp_path)
    for make in COUNTERS:
        machine = Machine(image, M4, MemoryLine(), make)
        machine.run(until=image.address_of("done"))
        assert machine.counter.tallies() == {}


def profiled(graph: QuantizedGraph, target: Target, n: int = 2) -> NetworkProfile:
    images = asked_of(graph, [smooth_image(graph.input_shape, seed) for seed in range(n)])
    with linked(graph, target) as firmware:
        return profile_network(graph, firmware.elf, target, images)


@pytest.mark.parametrize("target", [M0_PLUS, M4], ids=lambda target: str(target.core))
def test_the_layers_of_a_network_add_up_to_what_its_firmware_measures(target: Target) -> None:
    graph = random_layer("conv2d", 1, 3)
    found = profiled(graph, target)
    assert [layer.name for layer in found.layers] == [node.name for node in graph.nodes]
    # the firmware's own reading has the call of the network and of the counter on top
    assert 0 <= found.cycles - found.total.cycles < 100
    for layer in found.layers:
        assert layer.spent == sum(layer.functions.values(), Tally())
        assert layer.spent.cycles > layer.spent.n_instructions > 0
    assert sum(found.functions.values(), Tally()) == found.total
    assert "trec_conv2d_s8" in found.functions


def test_a_clustering_layer_is_counted_with_the_clusters_that_there_were() -> None:
    graph = clustered_layer(TrecConv2d, 1, 0)
    found = profiled(graph, M4)
    (node,), (layer,) = found.graph.nodes, found.layers
    op = node.op
    assert isinstance(op, TrecConv2d)
    image = asked_of(graph, [smooth_image(graph.input_shape, seed) for seed in range(2)])
    node = graph.nodes[0]
    counts = [op.count(each, graph.weights[node.name], graph.node_quantization(node)) for each in image]
    assert op.mean_clusters == np.mean(counts)
    assert layer.macs == op.macs(graph.input_shape)
    assert layer.cycles_per_mac == layer.spent.cycles / layer.macs


def test_a_layer_with_a_cap_is_counted_with_the_signatures_that_there_were() -> None:
    graph = capped_layer(TrecConv2d, 1, 0)
    op, free = profiled(graph, M4).graph.nodes[0].op, graph.nodes[0].op
    assert isinstance(op, TrecConv2d) and isinstance(free, TrecConv2d)
    free = replace(free, config=replace(free.config, max_clusters=None))
    node, images = graph.nodes[0], [smooth_image(graph.input_shape, seed) for seed in range(2)]
    counts = [free.count(each, graph.weights[node.name], graph.node_quantization(node)) for each in images]
    assert op.mean_signatures == np.mean(counts)
    assert op.mean_clusters is not None
    assert np.mean(counts) > op.mean_clusters


def test_a_layer_without_products_has_no_cycles_per_mac() -> None:
    assert LayerProfile("pool", "max_pool2d", 0, Tally(100, 50), {}).cycles_per_mac is None


def test_the_same_images_give_the_same_profile() -> None:
    graph = random_layer("max_pool2d", 1, 2)
    assert profiled(graph, M7).layers == profiled(graph, M7).layers


def test_another_number_of_calls_is_refused() -> None:
    graph = random_layer("dense", 1, 0)
    image = smooth_image(graph.input_shape)
    with linked(graph, M4) as firmware:
        n = len(network_calls(graph))
        assert len(profile(firmware.elf, M4, [image], n)[0].steps) == n
        with pytest.raises(DeviceError, match=rf"made {n} calls; {n + 1} were expected"):
            profile(firmware.elf, M4, [image], n + 1)


def test_a_profile_becomes_a_sample_for_every_layer() -> None:
    found = profiled(random_layer("add", 1, 0), M4)
    context = context_of(M4, find_target_compiler())
    record = profile_record(found, context, "key")
    assert [sample.cycles for sample in samples([record])] == [layer.spent.cycles for layer in found.layers]
    assert (record.n_images, record.cycles, record.network) == (2, found.cycles, "key")


def test_tallies_add_and_subtract() -> None:
    a, b = Tally(10, 5, 3, 2), Tally(1, 2, 3, 4)
    assert (a + b, a - b) == (Tally(11, 7, 6, 6), Tally(9, 3, 0, -2))


def test_code_before_the_first_function_belongs_to_none() -> None:
    places = Places((100, 200), 200, 50, 4)
    assert [places.function_at(address) for address in (99, 100, 199, 200, 900)] == [0, 1, 1, 2, 2]
    assert replace(places, starts=()).n_functions == 1
