"""Layers of simple recurrent units (SRU) over an image read as a sequence, as in the SRU row of the TREC papers."""

from torch import Tensor, nn

from trec_dse.networks._recurrent import RecurrentNetwork
from trec_dse.trec.recurrent import SRU_GATES, Gates, SruRecurrence, remember_for


class SruLayer(nn.Module):
    """All steps' products with all gates, and the recurrence. (B, F, T, 1) to (B, d, T, 1)."""

    def __init__(self, features: int, units: int, steps: int, *, is_first: bool) -> None:
        super().__init__()
        projects = is_first  # what comes from outside stays when units are pruned, so it cannot be their highway
        self.product = Gates((*SRU_GATES, "highway") if projects else SRU_GATES, features, units)
        self.recurrence = SruRecurrence(projects=projects)
        remember_for(self.product.convolution("forget"), steps)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden units of all steps."""
        h: Tensor = self.recurrence(self.product(x), x)
        return h


def build(
    input_shape: tuple[int, int, int], n_classes: int, width: int = 256, layers: int = 2, steps: int = 96
) -> nn.Module:
    """`layers` SRU layers of `width` units; the last step's units are classified.

    An image (H, W, C) is read as `steps` equal parts of its bytes as they lie in memory: CIFAR-10's 3,072 as 96 steps
    of 32, each a third of a row of pixels. The first layer projects its input for the highway: it has four products
    per unit, the others three.
    """
    return RecurrentNetwork(input_shape, n_classes, SruLayer, (width, layers, steps))
