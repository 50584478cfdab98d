"""From the few numbers that a search chooses to one `TrecConfig` per convolution."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from trec_dse.candidate import HashScope, TrecConfig, TrecPolicy
from trec_dse.errors import CandidateError

_RECOVERY_MACS = 3.0  # what finding a row's cluster and adding its result costs, in MACs of a dense convolution


@dataclass(frozen=True)
class ConvShape:
    """The final shape of a convolution. `n_positions`: N, output positions per image."""

    kernel_h: int
    kernel_w: int
    in_channels: int
    out_channels: int
    n_positions: int

    @property
    def unfolded_length(self) -> int:
        """K, the length of one unfolded input row."""
        return self.kernel_h * self.kernel_w * self.in_channels


# What a layer costs with TREC if every cluster that there can be is found; the dense layer costs 1.
RelativeCost = Callable[[ConvShape, TrecConfig], float]


@dataclass(frozen=True)
class Decision:
    """Configs in network order, and for the layers that TREC would not make faster why they stay dense."""

    configs: dict[str, TrecConfig]
    reasons: dict[str, str]


def resolve(policy: TrecPolicy, shapes: Mapping[str, ConvShape]) -> dict[str, TrecConfig]:
    """The configs of `decide` where nothing is known of the target."""
    return decide(policy, shapes).configs


def relative_operations(shape: ConvShape, config: TrecConfig) -> float:
    """`RelativeCost` from counts alone: H/M + (1 - r_t) (1 - exact/M) + recovery/L + recovery/M + n/L + n'/M.

    r_t is the least that there can be in one image, 1 - min(2**H, N, max_clusters) / N; exact is H with kernel reuse
    and 0 without. Strips of m pixels are hashed once, not at every tap that reads them: their H/M shrinks by
    m / (kernel_h kernel_w), and so does n, the exact directions, to n'.
    """
    kernels = shape.out_channels
    taps = shape.kernel_h * shape.kernel_w
    pixels = config.vector_length * config.channel_groups / shape.in_channels
    projecting = (config.hash_bits + config.exact_directions) / kernels
    projecting *= pixels / taps if config.scope == "strip_shared" else 1
    exact = config.hash_bits if config.scope == "kernel_reuse" else 0
    centroids = most_clusters(shape, config) / shape.n_positions * (1 - exact / kernels)
    recovery = _RECOVERY_MACS * (1 / config.vector_length + 1 / kernels)
    return projecting + centroids + recovery + config.exact_directions / config.vector_length


def most_clusters(shape: ConvShape, config: TrecConfig) -> int:
    """The most clusters of one slice in one image."""
    limit: int = min(1 << config.hash_bits, shape.n_positions)
    return limit if config.max_clusters is None else min(limit, config.max_clusters)


def decide(
    policy: TrecPolicy, shapes: Mapping[str, ConvShape], relative_cost: RelativeCost = relative_operations
) -> Decision:
    """A config for every layer that `policy` treats; `shapes` is in network order, and so is the result.

    The first half of the treated layers, rounded up, counts as early. H never exceeds floor(log2 N), nor the number
    of kernels where they are reused. Kernel reuse goes to the layers with most hash values, K * H; the first one on
    ties. With `only_where_it_pays`, layers whose `relative_cost` is not below 1 stay dense, before any is chosen for
    kernel reuse. Raises CandidateError for a layer that is not there or a policy without a vector length.
    """
    configs = _wanted(policy, shapes)
    reasons: dict[str, str] = {}
    if policy.only_where_it_pays:
        costs = {name: relative_cost(shapes[name], config) for name, config in configs.items()}
        reasons = {name: _reason(shapes[name], configs[name], cost) for name, cost in costs.items() if cost >= 1}
        configs = {name: config for name, config in configs.items() if name not in reasons}
    free = [name for name in configs if name not in policy.layer_configs]
    by_size = sorted(free, key=lambda name: -shapes[name].unfolded_length * configs[name].hash_bits)
    for name in by_size[: policy.n_kernel_reuse]:
        bits = min(configs[name].hash_bits, shapes[name].out_channels)
        configs[name] = _config(policy, shapes[name], bits, "kernel_reuse")
    return Decision(configs, reasons)


def _wanted(policy: TrecPolicy, shapes: Mapping[str, ConvShape]) -> dict[str, TrecConfig]:
    """What `policy` asks for, in network order, without kernel reuse but where it is given outright."""
    names = _treated(policy, shapes)
    n_early = (len(names) + 1) // 2
    configs: dict[str, TrecConfig] = {}
    for name, shape in shapes.items():
        if name in policy.layer_configs:
            configs[name] = _fitted(policy.layer_configs[name], shape)
        elif name in names:
            asked = policy.hash_bits_early if names.index(name) < n_early else policy.hash_bits_late
            bits = min(asked, shape.n_positions.bit_length() - 1)
            configs[name] = _config(policy, shape, bits, policy.scope)
    return configs


def _config(policy: TrecPolicy, shape: ConvShape, bits: int, scope: HashScope) -> TrecConfig:
    if scope == "strip_shared":
        length, groups = _strip(policy, shape)
        exact = _exact_directions(policy.exact_directions, shape, length, groups)
        return TrecConfig(bits, length, scope, policy.max_clusters, groups, exact_directions=exact)
    return TrecConfig(bits, _vector_length(policy, shape), scope, policy.max_clusters)


def _fitted(config: TrecConfig, shape: ConvShape) -> TrecConfig:
    """`config` with the nearest L that divides K or tiles a kernel row, and no more reused kernels than there are."""
    if config.scope == "strip_shared":
        groups = nearest_divisor(shape.in_channels, config.channel_groups)
        depth = shape.in_channels // groups
        pixels = nearest_divisor(shape.kernel_w, config.vector_length / depth)
        exact = _exact_directions(config.exact_directions, shape, pixels * depth, groups)
        return replace(config, vector_length=pixels * depth, channel_groups=groups, exact_directions=exact)
    bits = min(config.hash_bits, shape.out_channels) if config.scope == "kernel_reuse" else config.hash_bits
    return replace(config, hash_bits=bits, vector_length=nearest_divisor(shape.unfolded_length, config.vector_length))


def _exact_directions(asked: int, shape: ConvShape, length: int, groups: int) -> int:
    """As many of the directions asked for as strips of that length can have."""
    pixels = length * groups // shape.in_channels
    return min(asked, length - 1) if pixels in (1, shape.kernel_w) else 0


def _reason(shape: ConvShape, config: TrecConfig, cost: float) -> str:
    bits, length = config.hash_bits, config.vector_length
    return (
        f"stays dense: with H {bits} and L {length} it could find {most_clusters(shape, config)} clusters in "
        f"{shape.n_positions} rows and cost {cost:.2f} times as much"
    )


def nearest_divisor(number: int, wanted: float) -> int:
    """The divisor of `number` nearest to `wanted`; of two equally near ones the larger."""
    divisors = (d for d in range(1, number + 1) if number % d == 0)
    return min(divisors, key=lambda d: (abs(d - wanted), -d))


def _treated(policy: TrecPolicy, shapes: Iterable[str]) -> list[str]:
    """The layers without a config of their own that `policy` treats, in network order."""
    present = list(shapes)
    asked = present if policy.layers is None else policy.layers
    missing = [name for name in (*asked, *policy.layer_configs) if name not in present]
    if missing:
        raise CandidateError(f"TREC is asked for {', '.join(missing)}; the convolutions are {', '.join(present)}")
    return [name for name in present if name in asked and name not in policy.layer_configs]


def _strip(policy: TrecPolicy, shape: ConvShape) -> tuple[int, int]:
    """L and the channel groups of strips that tile a kernel row."""
    groups = nearest_divisor(shape.in_channels, policy.channel_groups)
    depth = shape.in_channels // groups
    pixels = {
        "kernel_row": shape.kernel_w,
        "channels": 1,
        "whole": shape.kernel_w,
        "custom": nearest_divisor(shape.kernel_w, _custom_length(policy) // depth),
    }[policy.slice_policy]
    return pixels * depth, groups


def _custom_length(policy: TrecPolicy) -> int:
    if policy.slice_policy == "custom" and policy.vector_length < 1:
        raise CandidateError(f"slice policy 'custom' needs a vector_length of at least 1, found {policy.vector_length}")
    return policy.vector_length


def _vector_length(policy: TrecPolicy, shape: ConvShape) -> int:
    wanted = {
        "kernel_row": shape.kernel_w * shape.in_channels,
        "channels": shape.in_channels,
        "whole": shape.unfolded_length,
        "custom": _custom_length(policy),
    }[policy.slice_policy]
    return nearest_divisor(shape.unfolded_length, wanted)
