"""From the few numbers that a search chooses to one `TrecConfig` per convolution."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trec_dse.candidate import HashScope, TrecConfig, TrecPolicy
from trec_dse.errors import CandidateError


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


def resolve(policy: TrecPolicy, shapes: Mapping[str, ConvShape]) -> dict[str, TrecConfig]:
    """A config for every layer that `policy` treats; `shapes` is in network order, and so is the result.

    The first half of the treated layers, rounded up, counts as early. H never exceeds floor(log2 N), nor the number
    of kernels where they are reused. Kernel reuse goes to the layers with most hash values, K * H; the first one on
    ties. Raises CandidateError for a layer that is not there or a policy without a vector length.
    """
    names = _treated(policy, shapes)
    n_early = (len(names) + 1) // 2
    bits: dict[str, int] = {}
    for place, name in enumerate(names):
        asked = policy.hash_bits_early if place < n_early else policy.hash_bits_late
        bits[name] = min(asked, shapes[name].n_positions.bit_length() - 1)
    by_size = sorted(names, key=lambda name: -shapes[name].unfolded_length * bits[name])
    reusing = set(by_size[: policy.n_kernel_reuse])
    configs = {}
    for name in names:
        shape = shapes[name]
        scope: HashScope = "kernel_reuse" if name in reusing else policy.scope
        hash_bits = min(bits[name], shape.out_channels) if name in reusing else bits[name]
        if scope == "strip_shared":
            length, groups = _strip(policy, shape)
            configs[name] = TrecConfig(hash_bits, length, scope, policy.max_clusters, groups)
        else:
            configs[name] = TrecConfig(hash_bits, _vector_length(policy, shape), scope, policy.max_clusters)
    return configs


def nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` nearest to `wanted`; of two equally near ones the larger."""
    divisors = (d for d in range(1, number + 1) if number % d == 0)
    return min(divisors, key=lambda d: (abs(d - wanted), -d))


def _treated(policy: TrecPolicy, shapes: Iterable[str]) -> list[str]:
    present = list(shapes)
    if policy.layers is None:
        return present
    missing = [name for name in policy.layers if name not in present]
    if missing:
        raise CandidateError(f"TREC is asked for {', '.join(missing)}; the convolutions are {', '.join(present)}")
    return [name for name in present if name in policy.layers]


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
