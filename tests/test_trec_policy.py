"""Policies become one config per layer: tables worked out by hand."""

import pytest

from trec_dse.candidate import TrecConfig, TrecPolicy
from trec_dse.errors import CandidateError
from trec_dse.trec.policy import ConvShape, decide, nearest_divisor, relative_operations, resolve

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


def test_a_config_given_outright_is_taken_but_for_a_length_that_divides() -> None:
    given = {"conv2": TrecConfig(10, 11, "shared", max_clusters=50), "conv3": TrecConfig(5, 12, "kernel_reuse")}
    configs = resolve(TrecPolicy(2, 2, layers=("conv1",), layer_configs=given), SHAPES)
    # 10 is the divisor of 1600 nearest to 11; there are 4 kernels to reuse in conv3
    assert configs == {
        "conv1": TrecConfig(2, 15),
        "conv2": TrecConfig(10, 10, "shared", max_clusters=50),
        "conv3": TrecConfig(4, 12, "kernel_reuse"),
    }


def test_strips_given_outright_follow_the_channels_that_pruning_left() -> None:
    # of 48 channels 4 groups have 12 each, and one pixel is nearer to 16 than five are; 3 channels have 3 groups
    given = {
        "conv1": TrecConfig(6, 15, "strip_shared"),
        "conv2": TrecConfig(5, 16, "strip_shared", channel_groups=4),
        "conv3": TrecConfig(5, 6, "strip_shared", channel_groups=4),
    }
    shapes = {
        "conv1": ConvShape(5, 5, 3, 48, 784),
        "conv2": ConvShape(5, 5, 48, 48, 100),
        "conv3": ConvShape(3, 3, 3, 4, 16),
    }
    assert resolve(TrecPolicy(2, 2, layer_configs=given), shapes) == {
        "conv1": TrecConfig(6, 15, "strip_shared"),
        "conv2": TrecConfig(5, 12, "strip_shared", channel_groups=4),
        "conv3": TrecConfig(5, 3, "strip_shared", channel_groups=3),
    }


def test_configs_given_outright_are_neither_halved_nor_chosen_for_kernel_reuse() -> None:
    given = {"conv2": TrecConfig(6, 64)}
    configs = resolve(TrecPolicy(5, 3, n_kernel_reuse=9, layer_configs=given), SHAPES)
    assert list(configs) == ["conv1", "conv2", "conv3"]
    assert [configs[name].hash_bits for name in ("conv1", "conv3")] == [5, 3]
    assert [config.scope for config in configs.values()] == ["kernel_reuse", "per_slice", "kernel_reuse"]
    assert resolve(TrecPolicy(5, 3, layers=(), layer_configs=given), SHAPES) == given


def test_a_config_for_an_unknown_layer_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(CandidateError, match="asked for conv4; the convolutions are conv1, conv2, conv3"):
        resolve(TrecPolicy(2, 2, layer_configs={"conv4": TrecConfig(2, 2)}), SHAPES)


def test_operations_are_counted_at_the_most_clusters_of_one_image() -> None:
    shape = ConvShape(5, 5, 3, 64, 784)
    # H/M + 2**H/N + 3/L + 3/M
    assert relative_operations(shape, TrecConfig(5, 15)) == pytest.approx(5 / 64 + 32 / 784 + 3 / 15 + 3 / 64)
    assert relative_operations(shape, TrecConfig(5, 15, max_clusters=7)) == pytest.approx(
        5 / 64 + 7 / 784 + 3 / 15 + 3 / 64
    )
    # the reused kernels' outputs need no centroids
    assert relative_operations(shape, TrecConfig(5, 15, "kernel_reuse")) == pytest.approx(
        5 / 64 + 32 / 784 * 59 / 64 + 3 / 15 + 3 / 64
    )
    # 16 rows are at most 16 clusters
    assert relative_operations(SHAPES["conv3"], TrecConfig(5, 192)) > 1


def test_layers_that_cannot_gain_stay_dense_and_say_why() -> None:
    policy = TrecPolicy(5, 4, only_where_it_pays=True)
    decision = decide(policy, SHAPES)
    assert decision.configs == {"conv1": TrecConfig(5, 15), "conv2": TrecConfig(5, 320)}
    # 4/4 + 16/16 + 3/192 + 3/4
    assert decision.reasons == {
        "conv3": "stays dense: with H 4 and L 192 it could find 16 clusters in 16 rows and cost 2.77 times as much"
    }
    assert list(decide(TrecPolicy(5, 4), SHAPES).configs) == ["conv1", "conv2", "conv3"]


def test_a_layer_that_stays_dense_takes_no_place_in_kernel_reuse() -> None:
    seen: list[tuple[int, TrecConfig]] = []

    def cost(shape: ConvShape, config: TrecConfig) -> float:
        seen.append((shape.n_positions, config))
        return 1.0 if shape.n_positions == 100 else 0.99

    policy = TrecPolicy(5, 3, n_kernel_reuse=1, only_where_it_pays=True)
    assert list(decide(policy, SHAPES, cost).reasons) == ["conv2"]
    assert [c.scope for c in decide(policy, SHAPES, cost).configs.values()] == ["per_slice", "kernel_reuse"]
    assert seen[:3] == [(784, TrecConfig(5, 15)), (100, TrecConfig(5, 320)), (16, TrecConfig(3, 192))]


def test_a_single_position_never_pays() -> None:
    one = {"conv": ConvShape(1, 1, 64, 64, 1)}
    assert list(decide(TrecPolicy(5, 5, only_where_it_pays=True), one).reasons) == ["conv"]
