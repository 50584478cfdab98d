"""Every shipped search space, on candidates drawn at random."""

import ast
from pathlib import Path

import optuna
import pytest

from trec_dse import plugins
from trec_dse.candidate import MAX_HASH_BITS, Candidate
from trec_dse.networks import build_model
from trec_dse.search_space import SearchSpace, load_search_space, sample

NAMES = plugins.data_names("search_spaces", ".py")
N_SAMPLES = 200
SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


@pytest.fixture(params=NAMES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return load_search_space(request.param)


@pytest.fixture
def drawn(space: SearchSpace) -> list[tuple[optuna.trial.FrozenTrial, Candidate]]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=7))
    candidates = []
    for _ in range(N_SAMPLES):
        trial = study.ask()
        candidates.append(sample(space, trial))
        study.tell(trial, 0.0)
    return list(zip(study.trials, candidates, strict=True))


Drawn = list[tuple[optuna.trial.FrozenTrial, Candidate]]
DENSE = ("mnist_2k", "cifar10_resnet_sizes", "cifar10_resnet_pruning")  # of 4 bits; of sizes; of pruning alone


@pytest.fixture
def clustering(space: SearchSpace, drawn: Drawn) -> Drawn:
    if space.name in DENSE:
        pytest.skip("nothing is clustered there")
    return drawn


def test_there_are_search_spaces() -> None:
    assert {"digits_tiny", "mnist_lenet5", "cifar10_cifarnet"} <= set(NAMES)


def test_its_first_line_says_what_it_is_for(space: SearchSpace) -> None:
    assert ast.get_docstring(ast.parse(space.source))


def test_it_loads_by_name_and_by_path(space: SearchSpace, tmp_path: Path) -> None:
    copy = tmp_path / f"{space.name}.py"
    copy.write_bytes(space.source)
    assert load_search_space(str(copy)).sha256 == space.sha256


def test_every_parameter_is_suggested_in_every_trial(drawn: Drawn) -> None:
    assert len({tuple(sorted(trial.distributions.items())) for trial, _ in drawn[:1]}) == 1
    first = drawn[0][0].distributions
    assert all(trial.distributions == first for trial, _ in drawn)


def test_its_dataset_and_networks_exist(space: SearchSpace, drawn: Drawn) -> None:
    assert space.dataset in plugins.names("datasets")
    assert {candidate.network for _, candidate in drawn} <= set(plugins.names("networks"))


def test_dense_and_clustered_pruned_and_whole_candidates_are_in_it(clustering: Drawn) -> None:
    kinds = {(candidate.trec is None, not candidate.pruning) for _, candidate in clustering}
    assert kinds == {(False, False), (False, True), (True, False), (True, True)}


def test_every_slice_policy_and_scope_is_in_it(clustering: Drawn) -> None:
    policies = [candidate.trec for _, candidate in clustering if candidate.trec is not None]
    assert {policy.slice_policy for policy in policies} == {"kernel_row", "channels", "whole", "custom"}
    assert {policy.scope for policy in policies} == {"per_slice", "shared", "strip_shared"}
    assert {policy.channel_groups for policy in policies} == {1, 2, 4, 8}
    assert all(policy.channel_groups == 1 for policy in policies if policy.scope != "strip_shared")
    assert {0, 1, 2} <= {policy.n_kernel_reuse for policy in policies}
    assert all(policy.exact_directions == 0 for policy in policies if policy.scope != "strip_shared")


def test_a_vector_length_is_given_exactly_where_it_counts(drawn: Drawn) -> None:
    for _, candidate in drawn:
        if candidate.trec is not None:
            assert (candidate.trec.vector_length > 0) == (candidate.trec.slice_policy == "custom")
            assert 1 <= candidate.trec.hash_bits_early <= MAX_HASH_BITS
            assert 1 <= candidate.trec.hash_bits_late <= MAX_HASH_BITS


def test_what_a_candidate_does_not_use_is_not_in_its_key(space: SearchSpace, drawn: Drawn) -> None:
    dense = {trial.number: candidate for trial, candidate in drawn if candidate.trec is None}
    keys = {candidate.key for candidate in dense.values()}
    used = {(c.network, str(c.network_args), str(c.pruning), str(c.recipe), str(c.kernels)) for c in dense.values()}
    assert len(keys) == len(used)
    assert len(keys) < len(dense) or space.name in DENSE  # there every parameter counts


def test_its_networks_can_be_built_for_its_images(space: SearchSpace, drawn: Drawn) -> None:
    if space.dataset not in SHAPES:
        pytest.skip(f"no image shape is noted here for {space.dataset}")
    args = {tuple(candidate.network_args.items()): candidate for _, candidate in drawn}
    for candidate in args.values():
        assert build_model(candidate, SHAPES[space.dataset], 10) is not None
