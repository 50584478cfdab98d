"""What a convolution that is computed by kernels of our own needs besides tensors."""

from dataclasses import dataclass

from trec_dse.candidate import TrecConfig
from trec_dse.trec.layout import ConvGeometry, Layout, layout_of


@dataclass(frozen=True)
class ConvCall:
    """A call of `native.convolve` or `on_gpu.convolve`.

    Attributes:
        slope: None where the hash has no gradient.
        takes_neighbours: whether that comes from one-bit neighbours instead of all signatures.
    """

    geometry: ConvGeometry
    config: TrecConfig
    slope: float | None = None
    takes_neighbours: bool = False

    @property
    def layout(self) -> Layout:
        """Where the vectors lie."""
        return layout_of(self.geometry, self.config)

    @property
    def most_clusters(self) -> int:
        """The most clusters that a group can have in one image."""
        most: int = min(2**self.config.hash_bits, self.layout.n_vectors)
        return most if self.config.max_clusters is None else min(most, self.config.max_clusters)
