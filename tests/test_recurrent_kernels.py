"""The integers of the recurrent operators: tables, blends and states by hand, and what they cost."""

import numpy as np
import pytest
import torch

from trec_dse.errors import UnsupportedError
from trec_dse.evaluate import host_network
from trec_dse.graph import INPUT, Graph, Node, NodeQuantization, Quantization, Window, Work
from trec_dse.memory import plan_memory
from trec_dse.ops._fake_recurrence import fake_gru, fake_sru
from trec_dse.ops._levels import Levels
from trec_dse.ops._sequences import (
    GATE_UNIT,
    ONE,
    blend,
    highway_shift,
    interpolate,
    levels_to_gate_units,
    levels_to_sigmoids,
    levels_to_tanhs,
    sigmoid_table,
    table_place,
)
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.gru import Gru
from trec_dse.ops.sru import Sru
from trec_dse.quantize import quantize

SIXTEENTH = Quantization(1 / 16, 0)  # levels from -8 to 8


def test_a_gate_s_table_is_the_logistic_function_of_its_levels() -> None:
    gates = levels_to_sigmoids(SIXTEENTH)
    assert len(gates) == 256
    # s(0) = 1/2; s(1) = 0.731059, s(-1) = 1 - that; in 1 / 2**15
    assert gates[[128, 144, 112]].tolist() == [16384, 23955, 8813]
    assert levels_to_sigmoids(Quantization(1.0, 0))[[0, 255]].tolist() == [0, ONE]


def test_a_blend_lies_between_its_ends_and_fits_an_int32() -> None:
    most = 255 * 128
    ends = np.array([[-most, most], [most, -most], [0, most], [5, 5]])
    for gate in (0, 1, ONE // 2, ONE - 1, ONE):
        blended = blend(np.full(4, gate), ends[:, 0], ends[:, 1])
        assert np.all((blended >= ONE * ends.min(axis=1)) & (blended <= ONE * ends.max(axis=1)))
        assert np.abs(gate * (ends[:, 0] - ends[:, 1])).max() + ONE // 2 < 2**31
    assert blend(np.array([ONE // 4]), np.array([8]), np.array([4])).tolist() == [ONE * 5]


def test_between_entries_a_table_is_a_line() -> None:
    table = np.array([0, 128, 100], dtype=np.int16)
    # 37 / 128 of 128; the middle of 128 and 100; 100 itself; 128 - 28 / 128 rounded
    assert interpolate(table, np.array([37, 192, 256, 129])).tolist() == [37, 114, 100, 128]


def test_the_gru_s_table_is_close_to_the_function_itself() -> None:
    x = np.arange(-20_000, 20_000)
    found = interpolate(sigmoid_table(), table_place(x)) / ONE
    assert np.abs(found - 1 / (1 + np.exp(-x * GATE_UNIT))).max() < 0.0004
    inside = np.abs(x * GATE_UNIT) < 7.9
    assert np.abs(found - 1 / (1 + np.exp(-x * GATE_UNIT)))[inside].max() < 0.0001


def test_levels_beyond_sixteen_saturate_in_a_gate() -> None:
    # 0.125 * 3 is 768 units; 127 and -128 levels of 0.25 would be 32 and -32
    assert levels_to_gate_units(Quantization(0.125, 0))[131] == 768
    assert levels_to_gate_units(Quantization(0.25, 0))[[0, 255]].tolist() == [-ONE, ONE - 1]


def test_the_highway_s_unit_holds_it_exactly_and_one_as_an_int16() -> None:
    # 128 * 100 units make 1 at scale 0.01, so all 7 bits fit; at 0.001 only 5 do: 32,000
    assert [highway_shift(scale) for scale in (1.0, 0.01, 0.001)] == [7, 7, 5]
    assert levels_to_tanhs(Quantization(0.1, 0), 0.001 / 32)[255] == 32_000
    with pytest.raises(UnsupportedError, match="at least 2"):
        highway_shift(1e-6)


def one_sru(scale: float = 1 / 16) -> tuple[Sru, NodeQuantization]:
    """A unit that projects its input; h lies between -1 and 1."""
    return Sru(projects=True), NodeQuantization((Quantization(scale, 0),), Quantization(1 / 128, 0))


def test_an_sru_by_hand() -> None:
    op, quantization = one_sru()
    # w = 2, f = r = 1/2, x = -0.5; then w = 0: c = 1, then 0.5
    products = np.array([[[32, 0, 0, -8]], [[0, 0, 0, -8]]], dtype=np.int8)
    h = op.run([products], op.quantize({}, quantization), quantization).reshape(-1)
    # (tanh(1) - 0.5) / 2 = 0.1308, (tanh(0.5) - 0.5) / 2 = -0.0189, in 1 / 128
    assert h.tolist() == [17, -2]


def test_a_slow_unit_moves_where_an_int8_state_would_stand_still() -> None:
    op, quantization = one_sru()
    # s(7.9375) = 0.99964: every step adds 0.00036 of 4, that is 0.0228 of a level
    products = np.tile(np.array([64, 127, 127, 0], dtype=np.int8), (96, 1, 1))
    h = op.run([products], op.quantize({}, quantization), quantization).reshape(-1) / 128
    share = 1 / (1 + np.exp(-127 / 16))
    exact = np.tanh(4 * (1 - share ** np.arange(1, 97))) * share
    assert exact[-1] == pytest.approx(0.134, abs=0.001)
    assert np.abs(h - exact).max() < 0.01
    # rounded to whole levels, a state that gains less than half a level per step gains nothing
    assert np.floor(0.0 + (1 - share) * 64 + 0.5) == 0


def test_a_gru_by_hand() -> None:
    op = Gru()
    quantization = NodeQuantization((Quantization(1 / 16, 0),), Quantization(1 / 128, 0))
    weights = op.quantize({"hidden": np.array([[0.0], [0.0], [2.0]]), "hidden_bias": np.zeros(3)}, quantization)
    # r = z = 1/2, a_n = 1: h = tanh(1) / 2 = 0.3808; then n = tanh(1 + 0.3808) = 0.8812 and h = (n + h) / 2
    products = np.array([[[0, 0, 16]]] * 2, dtype=np.int8)
    h = op.run([products], weights, quantization).reshape(-1) / 128
    assert h.tolist() == pytest.approx([0.3808, (0.8812 + 0.3808) / 2], abs=0.006)
    last = Gru(last=True).run([products], weights, quantization)
    assert last.reshape(-1).tolist() == [round(128 * h[1])]


def test_what_recurrences_need() -> None:
    # 9 steps of 2 sequences of 5 units: int16 cell states; int16 states and their int8 roundings
    assert Sru(projects=True).scratch_bytes((9, 2, 20)) == 2 * 2 * 5
    assert Gru().scratch_bytes((9, 2, 15)) == 3 * 2 * 5
    assert Sru(projects=True).macs((9, 2, 20)) == 3 * 9 * 2 * 5
    assert Gru().macs((9, 2, 15)) == 9 * 2 * (15 * 5 + 4 * 5)
    assert Sru(projects=True, last=True).work((9, 2, 20), worst=False) == (
        Work("sru_value", 90),
        Work("sru_output", 10),
    )
    # 5 units: per gate one block of 4 with 1 word of 4 and 1 left over, one unit alone with 4 + 1
    assert Gru().work((9, 2, 15), worst=False)[:2] == (
        Work("gru_words", 3 * 18 * 1),
        Work("gru_rest", 3 * 18 * (4 + 5)),
    )


@pytest.mark.parametrize("op", [Sru(), Sru(projects=True), Gru()])
def test_products_must_come_in_equal_parts(op: Sru | Gru) -> None:
    with pytest.raises(UnsupportedError, match="found"):
        op.output_shape((4, 1, 13), (4, 1, 4))


def test_an_sru_s_input_must_be_as_wide_as_its_output() -> None:
    assert Sru().output_shape((4, 1, 12), (4, 1, 4)) == (4, 1, 4)
    with pytest.raises(UnsupportedError, match="as many features"):
        Sru().output_shape((4, 1, 12), (4, 1, 5))


@pytest.mark.parametrize("op", [Sru(projects=True), Gru()], ids=["sru", "gru"])
def test_hidden_units_grow_into_the_products(op: Sru | Gru) -> None:
    random = np.random.default_rng(0)
    gates = 32 if isinstance(op, Sru) else 24
    hidden = {"hidden": random.normal(size=(24, 8)), "hidden_bias": random.normal(size=24)}
    nodes = (Node("products", Conv2d(gates, Window((1, 1))), (INPUT,)), Node("layer", op, ("products",)))
    products = {"weights": random.normal(size=(gates, 1, 1, 2)), "bias": random.normal(size=gates)}
    weights = {"products": products, "layer": {} if isinstance(op, Sru) else hidden}
    images = torch.from_numpy(random.normal(size=(4, 200, 1, 2)))
    graph = quantize(Graph((200, 1, 2), nodes, weights), images)
    plan = plan_memory(graph)
    # 200 * 8 outputs lie where the products were, for nothing else is as large
    assert plan.offset("layer") < plan.offset("products") + 200 * gates
    assert plan.offset("products") < plan.offset("layer") + 200 * 8
    levels = graph.quantize_images(images.numpy())
    with host_network(graph) as network:
        found = network.run(levels).outputs
    assert np.array_equal(found, np.stack([graph.run(image)["layer"].reshape(-1) for image in levels]))


@pytest.mark.parametrize("projects", [True, False])
def test_training_reaches_the_products_and_their_scale(projects: bool) -> None:
    scale = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    values = torch.randint(-100, 100, (2, 6, 1, 12), dtype=torch.float64, requires_grad=True)
    highway = torch.randint(-100, 100, (2, 6, 1, 4), dtype=torch.float64, requires_grad=True)
    products, x = Levels(values, scale, 3), Levels(highway, torch.tensor(0.01, dtype=torch.float64), 0)
    h = fake_sru(Sru(projects=projects), [products, x])
    torch.autograd.backward(h.square().sum())
    for tensor in (values, scale) if projects else (values, scale, highway):
        assert tensor.grad is not None
        assert bool(tensor.grad.any())


def test_training_reaches_the_hidden_weights_of_a_gru() -> None:
    scale = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    values = torch.randint(-60, 60, (2, 6, 1, 12), dtype=torch.float64, requires_grad=True)
    weights = {"hidden": torch.randn(12, 4).double(), "hidden_bias": torch.randn(12).double()}
    for weight in weights.values():
        weight.requires_grad_()
    h = fake_gru(Gru(), Levels(values, scale, 3), weights)
    torch.autograd.backward(h.square().sum())
    assert all(tensor.grad is not None and bool(tensor.grad.any()) for tensor in (values, scale, *weights.values()))
