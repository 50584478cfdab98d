"""What a network learns from its teacher, a wider one or itself before it clustered: logits and activations.

Answers alone say little to a layer whose clusters are coarse. What every convolution and dense layer reads is therefore
compared as well, layer by layer (FitNets, Romero et al., 2015, there of a smaller network).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import TrainingRecipe

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_Hook = Callable[[nn.Module, tuple[Tensor, ...]], None]


@dataclass(frozen=True, eq=False)
class Imitation:
    """A teacher in evaluation mode and, while `following`, what the layers of both networks have just read."""

    teacher: nn.Module
    how: TrainingRecipe
    _given: dict[str, Tensor] = field(default_factory=dict)
    _wanted: dict[str, Tensor] = field(default_factory=dict)

    @contextmanager
    def following(self, model: nn.Module) -> Iterator[None]:
        """Within the block, remember what the layers of `model` read that the teacher has under the same name.

        Dropout rests meanwhile: noise that the teacher does not have would draw all activations towards zero.
        """
        handles, resting = [], []
        if self.how.layer_distillation:
            resting = [module for module in model.modules() if isinstance(module, _DROPOUT) and module.training]
            layers = {n: m for n, m in self.teacher.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
            pupils = {name: module for name, module in model.named_modules() if name in layers}
            for name, pupil in pupils.items():
                handles.append(layers[name].register_forward_pre_hook(_remember(name, self._wanted)))
                handles.append(pupil.register_forward_pre_hook(_remember(name, self._given)))
        for module in resting:
            module.eval()
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for module in resting:
                module.train()

    def blend(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """`loss` of the right answers, with what the teacher says of the `images` that gave `logits` mixed in.

        Of logits z and the teacher's t, at temperature T: T^2 KL(softmax(t / T), softmax(z / T)) (Hinton et al., 2015).
        Of layers: mean squared difference over the teacher's mean square, averaged over the layers.
        """
        how = self.how
        if not how.distillation and not how.layer_distillation:
            return loss
        with torch.no_grad():
            wanted = F.log_softmax(self.teacher(images) / how.temperature, dim=1)
        if how.distillation:
            given = F.log_softmax(logits.float() / how.temperature, dim=1)
            distance = how.temperature**2 * F.kl_div(given, wanted, reduction="batchmean", log_target=True)
            loss = (1 - how.distillation) * loss + how.distillation * distance
        return loss + how.layer_distillation * self._layer_distance(loss)

    def _layer_distance(self, like: Tensor) -> Tensor:
        total = torch.zeros_like(like)
        for name, wanted in self._wanted.items():
            total = total + (self._given[name] - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12)
        return total / max(1, len(self._wanted))


def _remember(name: str, into: dict[str, Tensor]) -> _Hook:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        into[name] = inputs[0]

    return hook
