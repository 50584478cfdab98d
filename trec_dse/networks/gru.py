"""Layers of gated recurrent units (GRU) over an image read as a sequence; products with the input before the steps."""

from torch import Tensor, nn

from trec_dse.networks._recurrent import RecurrentNetwork
from trec_dse.trec.recurrent import GRU_GATES, Gates, GruRecurrence, remember_for


class GruLayer(nn.Module):
    """All steps' products with all gates, and the recurrence. (B, F, T, 1) to (B, d, T, 1)."""

    def __init__(self, features: int, units: int, steps: int, *, is_first: bool) -> None:
        super().__init__()
        self.product = Gates(GRU_GATES, features, units)
        self.recurrence = GruRecurrence(units)
        remember_for(self.product.convolution("update"), steps)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden units of all steps."""
        h: Tensor = self.recurrence(self.product(x))
        return h


def build(
    input_shape: tuple[int, int, int], n_classes: int, width: int = 256, layers: int = 2, steps: int = 96
) -> nn.Module:
    """`layers` GRU layers of `width` units; the last step's units are classified.

    An image is read as the SRU network does. TREC can treat the products with the input, which is half of the work or
    less: those with the hidden state come one step after the other.
    """
    return RecurrentNetwork(input_shape, n_classes, GruLayer, (width, layers, steps))
