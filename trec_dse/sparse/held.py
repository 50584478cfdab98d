"""Single weights that are held at zero while a network trains, all at once or more and more of them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from trec_dse.sparse.gather import largest


class HeldZeros:
    """Makes the smallest single weights of layers zero and holds them there while their model trains.

    A weight that is held counts nothing and learns nothing, and is never let go. The model itself is only hooked.
    """

    def __init__(self, model: nn.Module, shares: Mapping[str, float]) -> None:
        """`shares`: layer name -> share of its weights that are zero in the end."""
        self._model, self._shares = model, shares
        self._masks: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def mask(self, progress: float) -> None:
        """Hold that part, 0 to 1, of what is to be zero in the end: the weights that are smallest now."""
        self.release()
        for name, share in self._shares.items():
            layer = self._model.get_submodule(name)
            weight = layer.get_parameter("weight")
            # those that are held already are zero, so they are among the smallest
            mask = self._masks[name] = largest(weight.detach(), share * progress)
            self._hooks.append(layer.register_forward_pre_hook(_zeroing(mask)))
            self._hooks.append(weight.register_hook(masking(mask)))  # type: ignore[no-untyped-call]

    def release(self) -> None:
        """Take the hooks off the model, whose held weights are then exactly zero."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for name, mask in self._masks.items():
            _zero(self._model.get_submodule(name), mask)


def masking(mask: Tensor) -> Callable[[Tensor], Tensor]:
    """A hook for a parameter's gradient, which is then 0 where `mask` is."""
    return lambda gradient: gradient * mask.to(gradient.device)


def _zeroing(mask: Tensor) -> Callable[[nn.Module, object], None]:
    # the optimiser's momentum moves a weight that was masked a moment ago
    return lambda layer, _: _zero(layer, mask)


@torch.no_grad()
def _zero(layer: nn.Module, mask: Tensor) -> None:
    weight = layer.get_parameter("weight")
    weight.mul_(mask.to(weight.device))
