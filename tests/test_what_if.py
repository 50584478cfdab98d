"""Questions to a trained network: what changes nothing changes nothing, and what is answered is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_pipeline import CANDIDATE, board, request

from trec_dse import codec, what_if
from trec_dse.candidate import QuantizationRecipe, TrecConfig, TrecPolicy
from trec_dse.durable import write_text
from trec_dse.errors import StudyError, UnsupportedError
from trec_dse.evaluate import evaluate, network_folder
from trec_dse.graph import Graph, Node, Window
from trec_dse.ops.conv2d import Conv2d
from trec_dse.results import Evaluation, WhatIfPoint, WhatIfSetting
from trec_dse.storage import evaluation_path
from trec_dse.store import FLOAT_WEIGHTS
from trec_dse.what_if import TrainedNetwork, as_trained, ask, grid, open_network, reclustered, settings_of

KEY = CANDIDATE.key
OWN = WhatIfSetting(3, "kernel_row", 0)  # what the candidate was trained with


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    root = tmp_path_factory.mktemp("study")
    evaluation = evaluate(request(root), lambda text: None)
    write_text(evaluation_path(root, KEY), codec.to_json(evaluation))
    return root, evaluation


@pytest.fixture
def network(study: tuple[Path, Evaluation]) -> TrainedNetwork:
    root, evaluation = study
    return open_network(root, KEY, evaluation, board(), data_dir=None)


def test_a_setting_that_changes_nothing_gives_the_trial_itself(
    study: tuple[Path, Evaluation], network: TrainedNetwork
) -> None:
    _, evaluation = study
    point, cost = ask(network, OWN), evaluation.estimated
    assert point.accuracy == evaluation.int8_accuracy
    assert (point.sram_bytes, point.flash_bytes) == (cost.sram_bytes, cost.flash_bytes)
    assert (point.cycles, point.worst_cycles, point.macs) == (cost.cycles, cost.worst_cycles, cost.macs)
    assert point == as_trained(network)
    assert network.n_images == 100  # all that the recipe validates on


def test_fewer_hash_bits_leave_fewer_clusters(network: TrainedNetwork) -> None:
    point = ask(network, WhatIfSetting(1, "kernel_row", 0))
    # 64 positions and two clusters at most: r_t is at least 1 - 2/64
    assert min(point.redundancy.values()) >= 1 - 2 / 64
    assert {config.hash_bits for config in point.configs.values()} == {1}
    assert point.macs < as_trained(network).macs


def test_a_layer_that_reuses_its_kernels_stores_no_hash(network: TrainedNetwork) -> None:
    point = ask(network, WhatIfSetting(3, "kernel_row", 2))
    assert [config.scope for config in point.configs.values()] == ["kernel_reuse", "kernel_reuse"]
    assert not any("hash" in arrays for arrays in reclustered(network, point.configs).weights.values())


def test_what_was_answered_is_read_back(network: TrainedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    point = ask(network, OWN)
    monkeypatch.setattr(what_if, "run_on_host", lambda *_: pytest.fail("computed again"))
    assert ask(network, OWN) == point
    other_board = replace(network, target=replace(network.target, clock_hz=network.target.clock_hz // 2))
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        ask(other_board, OWN)


def test_settings_that_come_down_to_one_network_are_computed_once(
    network: TrainedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 8x8 positions hold 64 rows, so H stops at 6
    point = ask(network, WhatIfSetting(6, "channels", 2))
    monkeypatch.setattr(what_if, "run_on_host", lambda *_: pytest.fail("computed again"))
    assert ask(network, WhatIfSetting(8, "channels", 2)) == point


def test_an_interrupted_grid_goes_on_where_it_stopped(network: TrainedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [OWN, WhatIfSetting(2, "kernel_row", 0)]
    said: list[int] = []

    def interrupt(setting: WhatIfSetting, i: int, n: int) -> None:
        said.append(i)
        if i == 1 and len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grid(network, 7, settings, interrupt)
    found = grid(network, 7, settings, interrupt)
    assert said == [0, 1, 0, 1]
    assert (found.trial, found.n_images, found.settings) == (7, 100, tuple(settings))
    assert found.points[0] == found.trained


def test_what_is_not_to_be_stored_leaves_nothing_behind(network: TrainedNetwork) -> None:
    before = set((network.folder / "what_if").glob("*"))
    ask(network, WhatIfSetting(2, "whole", 1), store=False)
    assert set((network.folder / "what_if").glob("*")) == before


def test_layers_without_a_config_become_dense(network: TrainedNetwork) -> None:
    dense = reclustered(network, {})
    assert [type(node.op) for node in dense.nodes if node.name in network.shapes] == [Conv2d, Conv2d]
    one = reclustered(network, {"conv2": TrecConfig(2, 18, "shared")})
    assert one.weights["conv2"]["hash"].shape == (1, 18, 2)
    assert set(one.weights["conv1"]) == {"weights", "bias"}


def test_a_layer_whose_config_stays_keeps_its_learned_hash(network: TrainedNetwork) -> None:
    configs = {node.name: node.op.config for node in network.graph.nodes if node.name in network.shapes}  # type: ignore[attr-defined]
    changed = reclustered(network, configs | {"conv2": replace(configs["conv2"], hash_bits=2)})
    assert (changed.weights["conv1"]["hash"] == network.source.weights["conv1"]["hash"]).all()
    assert changed.weights["conv2"]["hash"].shape[2] == 2


def test_a_layer_padded_more_below_is_clustered_with_its_padding(network: TrainedNetwork) -> None:
    rng = np.random.default_rng(0)
    window = Window((3, 3), (2, 2), (0, 0), extra=(1, 1))  # 8x8 to 4x4 only with the row and the column after the end
    node = Node("conv1", Conv2d(4, window), ("input",))
    weights = {"conv1": {"weights": rng.standard_normal((4, 3, 3, 1)), "bias": np.zeros(4)}}
    padded = replace(network, source=Graph((8, 8, 1), (node,), weights))
    changed = reclustered(padded, {"conv1": TrecConfig(2, 3)})
    assert changed.shapes["conv1"] == (4, 4, 4)
    assert changed.weights["conv1"]["hash"].shape == (3, 3, 2)
    assert what_if.settings_of(padded)[-1].n_kernel_reuse == 1
    assert network.shapes.keys() == {"conv1", "conv2"}
    assert padded.shapes["conv1"].n_positions == 16


def test_a_network_that_brought_its_scales_keeps_them(network: TrainedNetwork) -> None:
    assert not reclustered(network, {}).ranges
    quantization = replace(network.candidate.recipe.quantization, calibration="own")
    recipe = replace(network.candidate.recipe, quantization=quantization)
    brought = replace(network, candidate=replace(network.candidate, recipe=recipe))
    assert reclustered(brought, {}).ranges == network.graph.quantization
    scales = {"scales": np.full(8, 0.01)}
    source = replace(
        network.source, weights={**network.source.weights, "conv1": {**network.source.weights["conv1"], **scales}}
    )
    assert reclustered(replace(brought, source=source), {}).weights["conv1"]["scales"].tolist() == [0.01] * 8


def test_what_cannot_be_is_answered_with_the_reason(network: TrainedNetwork) -> None:
    point = ask(network, WhatIfSetting(3, "custom", 0))
    assert point == WhatIfPoint(refusal=point.refusal)
    assert "needs a vector_length of at least 1" in point.refusal


def test_the_grid_reaches_from_no_kernel_reuse_to_every_layer(network: TrainedNetwork) -> None:
    settings = settings_of(network)
    assert {setting.n_kernel_reuse for setting in settings} == {0, 1, 2}
    assert {setting.slice_policy for setting in settings} == {"channels", "kernel_row", "whole"}
    assert len(settings) == len(what_if.HASH_BITS) * 3 * 3


def test_a_network_without_float_weights_is_refused(study: tuple[Path, Evaluation]) -> None:
    root, evaluation = study
    path = network_folder(evaluation_path(root, KEY).parent, evaluation.key) / FLOAT_WEIGHTS
    kept = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(StudyError, match=r"float\.safetensors: cannot be read"):
            open_network(root, KEY, evaluation, board(), data_dir=None)
    finally:
        path.write_bytes(kept)


def test_a_trial_that_was_stopped_has_no_network_to_ask(study: tuple[Path, Evaluation]) -> None:
    root, evaluation = study
    assert evaluation.is_trained
    stopped = replace(evaluation, fidelity=0.5)
    with pytest.raises(StudyError, match="was not trained to the end"):
        open_network(root, KEY, stopped, board(), data_dir=None)


def test_four_bits_have_no_clusters(study: tuple[Path, Evaluation]) -> None:
    root, evaluation = study
    recipe = replace(CANDIDATE.recipe, quantization=QuantizationRecipe(bits=4))
    other = replace(evaluation, candidate=replace(CANDIDATE, recipe=recipe, trec=None))
    with pytest.raises(UnsupportedError, match="a 4-bit network has no TREC kernels"):
        open_network(root, KEY, other, board(), data_dir=None)


def test_kernels_that_were_split_cannot_be_clustered_anew(study: tuple[Path, Evaluation]) -> None:
    root, evaluation = study
    policy = TrecPolicy(3, 3, layers=(), layer_configs={"conv1": TrecConfig(2, 3, "strip_shared", exact_directions=1)})
    other = replace(evaluation, candidate=replace(CANDIDATE, trec=policy))
    with pytest.raises(UnsupportedError, match="split for exact directions"):
        open_network(root, KEY, other, board(), data_dir=None)
