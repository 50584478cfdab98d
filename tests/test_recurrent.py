"""Recurrent layers in floating point: recurrences by hand and against torch, sequences without a copy, pruned units."""

import math
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trec_dse.candidate import TrecConfig
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.graph import Window
from trec_dse.lower import lower
from trec_dse.networks import gru, sru
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.gru import Gru
from trec_dse.ops.sru import Sru
from trec_dse.prune import fold_batch_norms, prune
from trec_dse.trec.apply import apply_trec, conv_shapes
from trec_dse.trec.policy import ConvShape
from trec_dse.trec.recurrent import (
    GRU_GATES,
    Gates,
    GruRecurrence,
    GruScan,
    ImageToSequence,
    LastStep,
    LinearScan,
    SruRecurrence,
    remember_for,
)

SMALL = (8, 8, 3)  # 192 numbers
BUILDERS = pytest.mark.parametrize("build", [sru.build, gru.build], ids=["sru", "gru"])


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)


def column(*values: float) -> Tensor:
    """One unit of one sequence, (1, 1, T, 1)."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, -1, 1)


def test_a_scan_keeps_a_share_of_the_state_before() -> None:
    # 1; 1 / 2 + 2; 2.5 / 2 + 4
    states = LinearScan.apply(column(9, 0.5, 0.5), column(1, 2, 4), 2)  # type: ignore[no-untyped-call]
    assert states.flatten().tolist() == [1, 2.5, 5.25]


def test_a_scan_has_the_gradient_of_its_steps() -> None:
    f, b = (torch.rand(2, 3, 4, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda f, b: LinearScan.apply(f, b, 2), (f, b))  # type: ignore[no-untyped-call]


def test_an_sru_by_hand() -> None:
    # f = r = 1/2: c = 2 / 2, then 1 / 2 + 4 / 2; h = tanh(c) / 2 + x / 2
    products = torch.cat([column(2, 4), column(0, 0), column(0, 0)], dim=1)
    h = SruRecurrence(projects=False)(products, column(6, -1))
    assert h.flatten().tolist() == pytest.approx([math.tanh(1) / 2 + 3, math.tanh(2.5) / 2 - 0.5])


def test_a_projected_highway_is_the_fourth_product() -> None:
    products = torch.cat([column(2, 4), column(0, 0), column(0, 0), column(6, -1)], dim=1)
    inside = SruRecurrence(projects=True)(products, column(99, 99))
    assert torch.equal(inside, SruRecurrence(projects=False)(products[:, :3], products[:, 3:]))


def gru_of_torch(units: int, features: int) -> tuple[nn.GRU, Gates, GruRecurrence]:
    """torch's GRU, and ours with its weights, in double precision."""
    theirs = nn.GRU(features, units).double()
    ours, recurrence = Gates(GRU_GATES, features, units).double(), GruRecurrence(units).double()
    with torch.no_grad():
        for i, name in enumerate(GRU_GATES):
            rows = slice(i * units, (i + 1) * units)
            ours.convolution(name).weight.copy_(cast(Tensor, theirs.weight_ih_l0)[rows, :, None, None])
            cast(Tensor, ours.convolution(name).bias).copy_(cast(Tensor, theirs.bias_ih_l0)[rows])
        recurrence.weight.copy_(cast(Tensor, theirs.weight_hh_l0))
        recurrence.bias.copy_(cast(Tensor, theirs.bias_hh_l0))
    return theirs, ours, recurrence


def test_a_gru_is_torch_s() -> None:
    theirs, gates, recurrence = gru_of_torch(units=5, features=3)
    x = torch.randn(2, 3, 7, 1, dtype=torch.float64)
    expected, _ = theirs(x[..., 0].permute(2, 0, 1))
    torch.testing.assert_close(recurrence(gates(x))[..., 0].permute(2, 0, 1), expected)


def test_a_gru_learns_as_torch_s_does() -> None:
    theirs, gates, recurrence = gru_of_torch(units=4, features=3)
    x = torch.randn(2, 3, 6, 1, dtype=torch.float64)
    expected, _ = theirs(x[..., 0].permute(2, 0, 1))
    torch.autograd.backward(expected.square().sum())
    torch.autograd.backward(recurrence(gates(x)).square().sum())
    torch.testing.assert_close(recurrence.weight.grad, theirs.weight_hh_l0.grad)
    torch.testing.assert_close(recurrence.bias.grad, theirs.bias_hh_l0.grad)
    found = torch.cat([cast(Tensor, gates.convolution(name).weight.grad) for name in GRU_GATES])
    torch.testing.assert_close(found[..., 0, 0], theirs.weight_ih_l0.grad)


def test_the_gru_s_own_gradient_is_that_of_its_steps() -> None:
    tensors = [torch.randn(*shape, dtype=torch.float64) for shape in ((6, 2), (6,), *[(2, 2, 3, 2)] * 3)]
    assert torch.autograd.gradcheck(GruScan.apply, tuple(t.requires_grad_() for t in tensors))


@pytest.mark.parametrize("recurrence", [SruRecurrence(projects=True), GruRecurrence(4)], ids=["sru", "gru"])
def test_columns_are_sequences_of_their_own(recurrence: nn.Module) -> None:
    units = 12 // (4 if isinstance(recurrence, SruRecurrence) else 3)
    products = torch.randn(2, 12, 5, 3)
    x = (torch.zeros(2, units, 5, 3),) if isinstance(recurrence, SruRecurrence) else ()
    together = recurrence(products, *x)
    for i in range(3):
        alone = recurrence(products[..., i : i + 1], *(each[..., i : i + 1] for each in x))
        torch.testing.assert_close(together[..., i : i + 1], alone)


def test_a_sequence_is_the_image_s_memory_in_equal_parts() -> None:
    image = np.arange(2 * 4 * 3).reshape(2, 4, 3)  # (H, W, C) as a device holds it
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    found = ImageToSequence(4)(x)
    assert found.shape == (1, 6, 4, 1)
    assert found[0, :, :, 0].T.tolist() == [list(range(i, i + 6)) for i in (0, 6, 12, 18)]


def test_gates_become_one_convolution() -> None:
    gates = Gates(GRU_GATES, 3, 4)
    x = torch.randn(2, 3, 5, 1)
    merged = gates.merged()
    assert tuple(merged.weight.shape) == (12, 3, 1, 1)
    torch.testing.assert_close(merged(x), torch.cat(gates(x), dim=1))


def test_a_gate_starts_by_remembering_up_to_all_steps() -> None:
    conv = nn.Conv2d(1, 500, 1)
    remember_for(conv, 96)
    assert conv.bias is not None
    biases = conv.bias.tolist()
    assert min(biases) >= 0
    assert math.log(80) < max(biases) <= math.log(95)


def test_networks_have_the_products_of_the_published_setting() -> None:
    shapes = conv_shapes(fold_batch_norms(sru.build((32, 32, 3), 10)), (32, 32, 3))
    assert shapes == {"layer1.product": ConvShape(1, 1, 32, 1024, 96), "layer2.product": ConvShape(1, 1, 256, 768, 96)}
    shapes = conv_shapes(fold_batch_norms(gru.build((32, 32, 3), 10, width=64)), (32, 32, 3))
    assert shapes == {"layer1.product": ConvShape(1, 1, 32, 192, 96), "layer2.product": ConvShape(1, 1, 64, 192, 96)}


def test_parameters_by_hand() -> None:
    n_sru, n_gru = (
        sum(p.numel() for p in build((32, 32, 3), 10, width=16, layers=2).parameters())
        for build in (sru.build, gru.build)
    )
    # 4 * (32 * 16 + 16), 3 * (16 * 16 + 16), 16 * 10 + 10
    assert n_sru == 2112 + 816 + 170
    # 3 * (32 * 16 + 16), 3 * (16 * 16 + 16), twice 3 * (16 * 16 + 16), 16 * 10 + 10
    assert n_gru == 1584 + 816 + 2 * 816 + 170


@BUILDERS
def test_steps_must_divide_the_image(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CandidateError, match="must divide an image of 192 numbers"):
        build(SMALL, 10, width=4, steps=7)
    with pytest.raises(CandidateError, match="width 0"):
        build(SMALL, 10, width=0)


def test_a_pruned_unit_leaves_every_gate() -> None:
    model = prune(sru.build(SMALL, 10, width=8, steps=24), SMALL, {"*": 0.5})
    channels = {name: m.weight.shape[0] for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert len(channels) == 4 + 3
    assert set(channels.values()) == {4}


def test_pruning_a_gru_takes_units_out_of_its_hidden_products() -> None:
    model = gru.build(SMALL, 10, width=8, layers=1, steps=24)
    recurrence, fc1 = model.get_submodule("layer1.recurrence"), model.get_submodule("fc1")
    assert isinstance(recurrence, GruRecurrence)
    assert isinstance(fc1, nn.Linear)
    with torch.no_grad():
        for unread in (1, 2, 5, 6):  # nothing reads these units, and they are the weakest
            recurrence.weight[:, unread] = 0
            fc1.weight[:, unread] = 0
            for conv in model.get_submodule("layer1.product").children():
                assert isinstance(conv, nn.Conv2d)
                conv.weight[unread] *= 1e-3
    pruned = prune(model, SMALL, {"*": 0.5})
    assert tuple(cast(GruRecurrence, pruned.get_submodule("layer1.recurrence")).weight.shape) == (12, 4)
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(pruned(images), model(images))


def test_an_image_becomes_a_sequence_without_an_operator() -> None:
    graph = lower(fold_batch_norms(sru.build(SMALL, 10, width=4, steps=24)), SMALL)
    assert graph.input_shape == (24, 1, 8)
    assert [(node.name, node.op) for node in graph.nodes] == [
        ("layer1.product", Conv2d(16, Window((1, 1)))),
        ("layer1.recurrence", Sru(projects=True)),
        ("layer2.product", Conv2d(12, Window((1, 1)))),
        ("layer2.recurrence", Sru(last=True)),
        ("fc1", Dense(10)),
    ]
    assert graph.nodes[3].inputs == ("layer2.product", "layer1.recurrence")
    assert graph.shapes["layer2.recurrence"] == (1, 1, 4)


@BUILDERS
def test_a_graph_computes_what_the_network_computes(build) -> None:  # type: ignore[no-untyped-def]
    model = fold_batch_norms(build(SMALL, 10, width=5, steps=24))
    images = torch.randn(3, 3, 8, 8)
    for network in (model, apply_trec(model, {"layer2.product": TrecConfig(3, 5)}, images).eval()):
        graph = lower(network, SMALL)
        found = graph.forward(images.permute(0, 2, 3, 1))["fc1"]
        torch.testing.assert_close(found, network(images), rtol=1e-4, atol=1e-5)


def test_a_gru_s_hidden_weights_stay_beside_its_recurrence() -> None:
    graph = lower(fold_batch_norms(gru.build(SMALL, 10, width=4, layers=1, steps=24)), SMALL)
    assert [node.op for node in graph.nodes][:2] == [Conv2d(12, Window((1, 1))), Gru(last=True)]
    shapes = {name: array.shape for name, array in graph.weights["layer1.recurrence"].items()}
    assert shapes == {"hidden": (12, 4), "hidden_bias": (12,)}


class _ReadTwice(nn.Module):
    """Reads the image once as it is and once as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence, self.conv, self.product = ImageToSequence(4), nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.product(self.sequence(x))  # type: ignore[no-any-return]


REFUSED: list[tuple[nn.Module, str]] = [
    (_ReadTwice(), "must be the only one that reads the image"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), ImageToSequence(4)), "must be the only one that reads the image"),
    (nn.Sequential(ImageToSequence(3)), "cuts 16 numbers into 3 steps"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), LastStep()), "must be that of a recurrence"),
    (sru.build((4, 4, 1), 10, width=4, steps=4), "fold before lowering"),
    (gru.build((4, 4, 1), 10, width=4, steps=4), "fold before lowering"),
]


@pytest.mark.parametrize(("model", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_lowered_is_refused_by_name(model: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        lower(model, (4, 4, 1))
