"""Policies become one config per layer: tables worked out by hand."""

import pytest

from trec_dse.candidate import TrecConfig, TrecPolicy
from trec_dse.errors import CandidateError
from trec_dse.trec.policy import ConvShape, nearest_divisor, resolve

# K = 75, 1600, 576; K * H below is what decides about kernel reuse
SHAPES = {
    "conv1": ConvShape(5, 5, 3, 64, 784),
    "conv2": ConvShape(5, 5, 64, 64, 100),
    "conv3": ConvShape(3, 3, 64, 4, 16),
}


def test_the_first_half_rounded_up_is_early() -> None:
    configs = resolve(TrecPolicy(5, 3), SHAPES)
    assert {name: config.hash_bits for name, config in configs.items()} == {"conv1": 5, "conv2": 5, "conv3": 3}


@pytest.mark.parametrize(
    ("policy", "lengths"),
    [
        (TrecPolicy(4, 4, "kernel_row"), [15, 320, 192]),
        (TrecPolicy(4, 4, "channels"), [3, 64, 64]),
        (TrecPolicy(4, 4, "whole"), [75, 1600, 576]),
        # 20: divisors of 75 are 1 3 5 15 25 75, so 15 and 25 tie; 20 divides 1600; of 576, 18 is nearer than 24
        (TrecPolicy(4, 4, "custom", 20), [25, 20, 18]),
        (TrecPolicy(4, 4, "custom", 10_000), [75, 1600, 576]),
    ],
)
def test_a_slice_policy_gives_the_vector_length(policy: TrecPolicy, lengths: list[int]) -> None:
    assert [config.vector_length for config in resolve(policy, SHAPES).values()] == lengths


def test_signatures_never_outnumber_the_rows() -> None:
    # 784 rows: at most 9 bits; 100: 6; 16: 4
    assert [c.hash_bits for c in resolve(TrecPolicy(12, 12), SHAPES).values()] == [9, 6, 4]
    assert resolve(TrecPolicy(3, 3), {"conv1": ConvShape(1, 1, 4, 4, 1)})["conv1"].hash_bits == 0


def test_the_layers_with_most_hash_bytes_reuse_their_kernels() -> None:
    # K * H: 75 * 5, 1600 * 5, 576 * 3
    assert [c.scope for c in resolve(TrecPolicy(5, 3, n_kernel_reuse=1), SHAPES).values()] == [
        "per_slice",
        "kernel_reuse",
        "per_slice",
    ]
    two = resolve(TrecPolicy(5, 3, scope="shared", n_kernel_reuse=2), SHAPES)
    assert [c.scope for c in two.values()] == ["shared", "kernel_reuse", "kernel_reuse"]
    assert [c.scope for c in resolve(TrecPolicy(5, 3, n_kernel_reuse=9), SHAPES).values()] == ["kernel_reuse"] * 3


def test_of_equally_large_hashes_the_first_is_reused() -> None:
    twins = {"a": ConvShape(3, 3, 8, 8, 64), "b": ConvShape(3, 3, 8, 8, 64)}
    configs = resolve(TrecPolicy(2, 2, n_kernel_reuse=1), twins)
    assert [c.scope for c in configs.values()] == ["kernel_reuse", "per_slice"]


def test_kernel_reuse_has_no_more_bits_than_kernels() -> None:
    configs = resolve(TrecPolicy(4, 4, n_kernel_reuse=1), {"conv": ConvShape(3, 3, 8, 3, 64)})
    assert configs["conv"] == TrecConfig(3, 24, "kernel_reuse")


def test_only_the_named_layers_are_treated_in_network_order() -> None:
    configs = resolve(TrecPolicy(5, 2, layers=("conv3", "conv1"), max_clusters=7), SHAPES)
    assert configs == {"conv1": TrecConfig(5, 15, max_clusters=7), "conv3": TrecConfig(2, 192, max_clusters=7)}


def test_an_unknown_layer_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(CandidateError, match="asked for conv9; the convolutions are conv1, conv2, conv3"):
        resolve(TrecPolicy(2, 2, layers=("conv1", "conv9")), SHAPES)


def test_a_custom_policy_needs_a_length() -> None:
    with pytest.raises(CandidateError, match="'custom' needs a vector_length"):
        resolve(TrecPolicy(2, 2, "custom"), SHAPES)


@pytest.mark.parametrize(
    ("policy", "strips"),
    [
        # (L, g) for C = 3, 64, 64 and kernels 5, 5, 3 wide
        (TrecPolicy(4, 4, "kernel_row", scope="strip_shared"), [(15, 1), (320, 1), (192, 1)]),
        (TrecPolicy(4, 4, "whole", scope="strip_shared"), [(15, 1), (320, 1), (192, 1)]),
        (TrecPolicy(4, 4, "channels", scope="strip_shared"), [(3, 1), (64, 1), (64, 1)]),
        # 4 groups: of 3 channels the nearest divisor is 3
        (TrecPolicy(4, 4, "channels", scope="strip_shared", channel_groups=4), [(1, 3), (16, 4), (16, 4)]),
        # 40 elements of 8 channels are 5 pixels: a row of 5; of a row of 3 the nearest divisor is 3
        (TrecPolicy(4, 4, "custom", 40, "strip_shared", channel_groups=8), [(5, 3), (40, 8), (24, 8)]),
        (TrecPolicy(4, 4, "custom", 1, "strip_shared"), [(3, 1), (64, 1), (64, 1)]),
    ],
)
def test_a_slice_policy_gives_the_pixels_of_a_strip(policy: TrecPolicy, strips: list[tuple[int, int]]) -> None:
    configs = resolve(policy, SHAPES).values()
    assert [(config.vector_length, config.channel_groups) for config in configs] == strips
    assert {config.scope for config in configs} == {"strip_shared"}


def test_layers_that_reuse_their_kernel_have_slices_among_strips() -> None:
    configs = resolve(TrecPolicy(5, 3, scope="strip_shared", channel_groups=2, n_kernel_reuse=1), SHAPES)
    assert configs["conv2"] == TrecConfig(5, 320, "kernel_reuse")
    assert configs["conv3"] == TrecConfig(3, 96, "strip_shared", channel_groups=2)


def test_a_network_without_convolutions_resolves_to_nothing() -> None:
    assert resolve(TrecPolicy(2, 2), {}) == {}


def test_the_nearest_divisor_is_the_larger_of_two_equally_near() -> None:
    # divisors of 12: 1 2 3 4 6 12
    assert [nearest_divisor(12, wanted) for wanted in (1, 5, 7, 8, 9, 10, 100)] == [1, 6, 6, 6, 12, 12, 12]
