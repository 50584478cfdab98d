"""Every shipped preset is a candidate that builds, and the published lists are those published."""

import pytest
import torch

from trec_dse import codec, plugins
from trec_dse.candidate import Candidate, TrecConfig
from trec_dse.datasets._types import placeholder
from trec_dse.errors import CandidateError
from trec_dse.evaluate import untrained_graph
from trec_dse.networks import build_model
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.search_space import load_candidate
from trec_dse.trec.apply import conv_shapes
from trec_dse.trec.policy import resolve

NAMES = plugins.data_names("presets", ".json")
CLUSTERED = [name for name in NAMES if name != "mnist2k"]  # that one is in 4 bits
PUBLISHED = [name for name in CLUSTERED if name.startswith("trec_")]
SHAPES = {"cifar10": (32, 32, 3), "mnist": (28, 28, 1)}
# K / L of the stem, of squeeze, expand1 and expand3 in fires 2 to 9, and of conv10
SQUEEZENET_SLICES = [3, 1, 2, 3, 2, 2, 2, 2, 2, 2, 2, 8, 2, 8, 8, 8, 8, 8, 2, 48, 16, 2, 2, 8, 2, 128]


@pytest.fixture(params=CLUSTERED)
def preset(request: pytest.FixtureRequest) -> Candidate:
    torch.set_num_threads(1)
    return load_candidate(request.param)


def given(preset: Candidate) -> dict[str, TrecConfig]:
    assert preset.trec is not None
    return dict(preset.trec.layer_configs)


def test_a_preset_and_a_search_space_have_different_names() -> None:
    assert len(CLUSTERED) == len(NAMES) - 1 > 1
    assert not set(NAMES) & set(plugins.data_names("search_spaces", ".py"))


def test_its_configs_are_used_as_they_are(preset: Candidate) -> None:
    shapes = conv_shapes(build_model(preset, SHAPES[preset.dataset], 10), SHAPES[preset.dataset])
    assert preset.trec is not None
    assert resolve(preset.trec, shapes) == given(preset)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_list_is_for_all_convolutions(name: str) -> None:
    preset = load_candidate(name)
    shapes = conv_shapes(build_model(preset, SHAPES[preset.dataset], 10), SHAPES[preset.dataset])
    assert list(given(preset)) == list(shapes)


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_a_round_trip(name: str) -> None:
    preset = load_candidate(name)
    assert codec.from_json(codec.to_json(preset), Candidate, "preset", CandidateError) == preset


def test_it_becomes_an_int8_network_in_which_those_convolutions_cluster(preset: Candidate) -> None:
    graph = untrained_graph(preset, placeholder(preset.dataset, SHAPES[preset.dataset], 10))
    clustered = {node.name: node.op.config for node in graph.nodes if isinstance(node.op, TrecConv2d | TrecStripConv2d)}
    assert clustered == given(preset)


@pytest.mark.parametrize("name", ["trec_squeezenet", "trec_squeezenet_bypass", "trec_squeezenet_complex_bypass"])
def test_squeezenet_has_the_published_numbers_of_slices(name: str) -> None:
    preset = load_candidate(name)
    shapes = conv_shapes(build_model(preset, (32, 32, 3), 10), (32, 32, 3))
    slices = {layer: shapes[layer].unfolded_length // config.vector_length for layer, config in given(preset).items()}
    assert [n for layer, n in slices.items() if not layer.endswith("bypass")] == SQUEEZENET_SLICES
    assert all(config.hash_bits == 5 for layer, config in given(preset).items() if layer != "fire4.bypass")
    if name == "trec_squeezenet_complex_bypass":
        bypasses = [(c.vector_length, c.hash_bits) for layer, c in given(preset).items() if layer.endswith("bypass")]
        assert bypasses == [(12, 5), (4, 8), (32, 5), (128, 5)]


def test_an_unknown_preset_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(
        CandidateError, match="'nonsense'; choose from cifarnet_strips, mnist2k, trec_cifarnet, trec_squeezenet"
    ):
        load_candidate("nonsense")
