"""The candidates of benchmarks/accuracy.py: what each shows, and how it is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trec_dse.candidate import Candidate, KernelConfig, Recipe, TrainingRecipe, TrecConfig, TrecPolicy
from trec_dse.ops.trec_strip_conv2d import MOST_CLUSTERS

AUGMENTED = TrainingRecipe(flip=True, shift=2)
TAUGHT = replace(AUGMENTED, layer_distillation=10.0)  # by the dense network, layer by layer


@dataclass(frozen=True)
class Variant:
    """A candidate by its name.

    Attributes:
        n_seeds: runs, where not as many as are asked for; n_trainings: dense networks that these runs share.
    """

    name: str
    candidate: Candidate
    n_seeds: int | None = None
    n_trainings: int | None = None


def dense(network: str, recipe: Recipe, width: float, pruned: float = 0.0) -> Variant:
    """A network without TREC, trained on for as long as the clustered ones are."""
    name = f"dense, width {width:g}" + (f", {100 * pruned:.0f} % pruned" if pruned else "")
    shares = {"*": pruned} if pruned else {}
    return Variant(name, Candidate("cifar10", network, {"width": width}, None, shares, recipe))


def longer(variant: Variant) -> Variant:
    """The same with three times the epochs after the dense training."""
    recipe = variant.candidate.recipe
    candidate = replace(variant.candidate, recipe=replace(recipe, trec_epochs=3 * recipe.trec_epochs))
    return replace(variant, name=f"{variant.name}, trained longer", candidate=candidate)


def pruned_too(variant: Variant, share: float) -> Variant:
    """The same of a network that has lost this share of its channels before."""
    recipe = replace(variant.candidate.recipe, fine_tune_epochs=3)
    candidate = replace(variant.candidate, pruning={"*": share}, recipe=recipe)
    return replace(variant, name=f"{variant.name}, {100 * share:.0f} % pruned", candidate=candidate)


def by_layer(configs: dict[str, TrecConfig]) -> TrecPolicy:
    """TREC in these layers only."""
    return TrecPolicy(5, 5, layers=(), layer_configs=configs)


def strips(hash_bits: int, length: int, groups: int = 1) -> TrecConfig:
    """Strips of `length` elements of one of `groups` groups of channels; no more clusters than the kernel can have."""
    cap = None if 2**hash_bits <= MOST_CLUSTERS else MOST_CLUSTERS
    return TrecConfig(hash_bits, length, "strip_shared", cap, channel_groups=groups)


def capped(hash_bits: int, length: int, most_clusters: int) -> TrecConfig:
    """Strips of one group with at most so many clusters."""
    return replace(strips(hash_bits, length), max_clusters=most_clusters)


def cifarnet(plain: Recipe, width: float, widths: Sequence[float], n_random: int) -> list[Variant]:
    """CifarNet: 64 kernels of 5x5 times its width in both convolutions, dense ones of several `widths`, the first being
    that of the clustered ones, and `n_random` of deep reuse."""
    taught, channels = replace(plain, training=TAUGHT), round(64 * width)

    def clustered(name: str, trec: TrecPolicy, recipe: Recipe = taught) -> Variant:
        return Variant(name, Candidate("cifar10", "cifarnet", {"width": width}, trec, {}, recipe))

    rows, both = TrecPolicy(5, 5), replace(TrecPolicy(5, 5), n_kernel_reuse=2)
    random = replace(plain, hash_gradient="none", hash_start="gaussian")
    deep_reuse = clustered("deep reuse: random fixed hash, kernel rows", rows, random)
    pixel, coarse, fine = strips(6, channels), strips(5, 16, channels // 16), strips(5, 8, channels // 8)
    return [
        *(dense("cifarnet", plain, w) for w in widths),
        *(dense("cifarnet", replace(plain, fine_tune_epochs=3), width, pruned) for pruned in (0.25, 0.5)),
        longer(dense("cifarnet", plain, width)),
        clustered("hash learned, not taught", rows, plain),
        clustered("hash learned", rows),
        clustered("hash learned, 4 bits", TrecPolicy(4, 4)),
        clustered("hash learned, 6 bits", TrecPolicy(6, 6)),
        clustered("1 layer reuses its kernel", replace(rows, n_kernel_reuse=1)),
        clustered("2 layers reuse their kernels", both),
        clustered("2 layers reuse their kernels, which learn to hash", both, replace(taught, kernel_surrogate=True)),
        clustered("strips of 15 and 16", by_layer({"conv1": strips(6, 15), "conv2": coarse})),
        clustered(f"strips of 15 and {channels}", by_layer({"conv1": strips(6, 15), "conv2": pixel})),
        clustered("strips of 3 and 8", by_layer({"conv1": strips(7, 3), "conv2": fine})),
        *(clustered(f"strips of 3 in conv1 only, {h} bits", by_layer({"conv1": strips(h, 3)})) for h in (6, 7, 8)),
        *(clustered(f"strips of 15 in conv1 only, {h} bits", by_layer({"conv1": strips(h, 15)})) for h in (6, 8)),
        clustered("strips of 16 in conv2 only", by_layer({"conv2": coarse})),
        clustered(f"strips of {channels} in conv2 only", by_layer({"conv2": pixel})),
        pruned_too(clustered("strips of 16 in conv2 only", by_layer({"conv2": coarse})), 0.25),
        replace(deep_reuse, n_seeds=n_random, n_trainings=5),
        *levels(width, taught),
        *beside_clusters(width, taught),
    ]


def beside_clusters(width: float, taught: Recipe) -> list[Variant]:
    """CifarNet with conv2 in strips beside few exact directions, with conv2 of low rank without clusters, and both."""
    groups, channels = round(4 * width), round(64 * width)

    def strips_of_16(bits: int, n: int) -> Variant:
        config = replace(strips(bits, 16, groups), exact_directions=n)
        name = f"strips of 16 in conv2 only, {bits} bits, {n} exact"
        return Variant(
            name, Candidate("cifar10", "cifarnet", {"width": width}, by_layer({"conv2": config}), {}, taught)
        )

    def of_rank(rank: int) -> Variant:
        kernels = {"conv2": KernelConfig("low_rank", rank=rank)}
        candidate = Candidate("cifar10", "cifarnet", {"width": width}, None, {}, taught, kernels)
        return Variant(f"conv2 of rank {rank}", candidate)

    def in_strips(rank: int, bits: int) -> Variant:
        alone = of_rank(rank)
        trec = by_layer({"conv2.expand": strips(bits, rank)})
        return Variant(f"{alone.name} in strips, {bits} bits", replace(alone.candidate, trec=trec), n_seeds=1)

    return [
        *(strips_of_16(bits, 0) for bits in (3, 4)),
        *(strips_of_16(bits, n) for bits, n in ((2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (4, 2))),
        *(of_rank(round(share * channels)) for share in (0.125, 0.25, 0.375, 0.5)),
        *(in_strips(channels // 2, bits) for bits in (4, 5)),
    ]


def levels(width: float, taught: Recipe) -> list[Variant]:
    """CifarNet with hashes that start at several levels of few directions; the clusters' cap bounds the memory."""
    taught = replace(taught, hash_start="levels")
    groups = round(4 * width)
    coarse, coarser = strips(6, 16, groups), strips(5, 16, groups)
    row, fine_row = capped(10, 15, 128), capped(12, 15, 160)
    pixel, fine_pixel = capped(9, 3, 48), capped(12, 3, 80)

    def clustered(name: str, trec: TrecPolicy) -> Variant:
        return Variant(f"levels: {name}", Candidate("cifar10", "cifarnet", {"width": width}, trec, {}, taught))

    pixels = clustered("strips of 3 in conv1 only, 12 bits", by_layer({"conv1": fine_pixel}))
    both = clustered("strips of 15 and 16", by_layer({"conv1": row, "conv2": coarse}))
    return [
        clustered("rows of the kernel, 6 bits", TrecPolicy(6, 6)),
        clustered("strips of 3 in conv1 only, 9 bits", by_layer({"conv1": pixel})),
        pixels,
        clustered("strips of 15 in conv1 only, 10 bits", by_layer({"conv1": row})),
        clustered("strips of 15 in conv1 only, 12 bits", by_layer({"conv1": fine_row})),
        clustered("strips of 16 in conv2 only, 5 bits", by_layer({"conv2": coarser})),
        clustered("strips of 16 in conv2 only, 6 bits", by_layer({"conv2": coarse})),
        both,
        clustered("strips of 3 and 16", by_layer({"conv1": pixel, "conv2": coarse})),
        longer(pixels),
        longer(both),
    ]


def squeezenet(plain: Recipe, widths: Sequence[float], n_random: int) -> list[Variant]:
    """SqueezeNet of several `widths`, the first being that of the clustered ones; TREC in all 26 convolutions, or where
    there are at least 256 positions; and `n_random` of deep reuse."""
    taught, width = replace(plain, training=TAUGHT), widths[0]
    many_rows = ("conv1", *(f"fire{n}.{part}" for n in (2, 3, 4) for part in ("squeeze", "expand1", "expand3")))
    rows = TrecPolicy(5, 5)
    pixels = replace(TrecPolicy(6, 6, "channels", scope="strip_shared"), channel_groups=2)
    where = replace(pixels, layers=many_rows[1:], layer_configs={"conv1": capped(9, 3, 48)})
    finer = replace(pixels, hash_bits_early=7, hash_bits_late=7, channel_groups=4)
    finer = replace(finer, layers=many_rows[1:], layer_configs={"conv1": capped(12, 3, 80)})

    def clustered(name: str, trec: TrecPolicy, recipe: Recipe = taught) -> Variant:
        return Variant(name, Candidate("cifar10", "squeezenet", {"width": width}, trec, {}, recipe))

    random = replace(plain, hash_gradient="none", hash_start="gaussian")
    deep_reuse = clustered("deep reuse: random fixed hash, kernel rows", rows, random)
    at_levels = replace(taught, hash_start="levels")
    return [
        *(dense("squeezenet", plain, w) for w in widths),
        clustered("hash learned", rows),
        clustered("hash learned, where N >= 256", replace(rows, layers=many_rows)),
        *(clustered(f"{n} layers reuse their kernels", replace(rows, n_kernel_reuse=n)) for n in (5, 10, 26)),
        clustered("strips where N >= 256", replace(rows, layers=many_rows, scope="strip_shared")),
        clustered("levels: strips of a pixel where N >= 256, 6 bits", where, at_levels),
        clustered("levels: shorter strips where N >= 256, 7 bits", finer, at_levels),
        clustered("levels: strips of a pixel in conv1 only", by_layer({"conv1": capped(9, 3, 48)}), at_levels),
        clustered(
            "levels: strips of a pixel in conv1 only, 12 bits", by_layer({"conv1": capped(12, 3, 80)}), at_levels
        ),
        replace(deep_reuse, n_seeds=n_random, n_trainings=5),
    ]


SMALL = Recipe(epochs=16, fine_tune_epochs=0, trec_epochs=3, n_calibration=256, training=AUGMENTED)
WHOLE = replace(SMALL, epochs=20, trec_epochs=4, batch_size=128, learning_rate=0.1, n_validation=2500)
THIN = Recipe(epochs=8, fine_tune_epochs=0, trec_epochs=2, n_calibration=256, training=AUGMENTED)
THIN_WHOLE = replace(THIN, epochs=14, trec_epochs=3, batch_size=256, learning_rate=0.1, n_validation=2500)
NETWORKS = {
    "cifarnet": cifarnet(SMALL, 0.5, (0.5, 0.375, 0.25, 0.125), n_random=20),
    "cifarnet_whole": cifarnet(WHOLE, 1.0, (1.0, 0.75, 0.5, 0.375, 0.25, 0.125), n_random=5),
    "squeezenet": squeezenet(THIN, (0.25, 0.1875, 0.125), n_random=20),
    "squeezenet_whole": squeezenet(THIN_WHOLE, (0.5, 0.375, 0.25), n_random=5),
}
WHOLE_DATA = ("cifarnet_whole", "squeezenet_whole")  # where the recipe says how many images
