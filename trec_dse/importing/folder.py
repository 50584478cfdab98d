"""From a model file to a folder that candidates can name: translate, check, write."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trec_dse.candidate import Candidate, QuantizationRecipe, Recipe
from trec_dse.errors import ModelError
from trec_dse.graph import Graph
from trec_dse.importing import onnx_network, torch_network
from trec_dse.importing.onnx_file import read_onnx
from trec_dse.lower import lower
from trec_dse.networks._blueprint import Blueprint, Convolution, assemble, save_blueprint
from trec_dse.networks.imported import n_outputs
from trec_dse.prune import fold_batch_norms

NETWORK = "imported"
# As it came: nothing is trained, only quantised.
AS_IT_CAME = Recipe(epochs=0, fine_tune_epochs=0, trec_epochs=0)


@dataclass(frozen=True)
class Imported:
    """What an import found.

    Attributes:
        path: the folder; sha256: its content hash, as candidates name it.
        graph: the float network, batch norms folded.
        notes: what was left out or changed on the way.
    """

    path: Path
    sha256: str
    blueprint: Blueprint
    graph: Graph
    n_classes: int
    n_parameters: int
    notes: tuple[str, ...] = field(default=())

    @property
    def convolutions(self) -> tuple[str, ...]:
        """Names of the convolutions that TREC can treat."""
        layers = self.blueprint.layers
        return tuple(layer.name for layer in layers if isinstance(layer.kind, Convolution) and layer.kind.groups == 1)

    @property
    def brings_scales(self) -> bool:
        """Whether it came quantised."""
        return bool(self.blueprint.ranges)

    def candidate(self, dataset: str, pixels: str) -> Candidate:
        """The network as it came, on that data set; `pixels` as in `networks.pixel_scaling`."""
        arguments = {"path": str(self.path.resolve()), "sha256": self.sha256, "pixels": pixels}
        calibration = QuantizationRecipe("own") if self.brings_scales else QuantizationRecipe()
        used = {name: value for name, value in arguments.items() if value}
        return Candidate(dataset, NETWORK, used, recipe=replace(AS_IT_CAME, quantization=calibration))


def import_onnx(path: Path, folder: Path) -> Imported:
    """Write the network of an ONNX file to `folder`.

    Raises ModelError for a file that is broken or not to be trusted, UnsupportedError with the list of all that has no
    counterpart; nothing is written then.
    """
    blueprint, draft = onnx_network.translate(read_onnx(path), path)
    return _write(blueprint, draft.weights, tuple(draft.notes), folder, str(path))


def import_module(given: str, input_shape: tuple[int, int, int], folder: Path) -> Imported:
    """Write the torch module that ``FILE.py:FUNCTION`` returns to `folder`; runs that file. Raises as `import_onnx`."""
    model = torch_network.load_module(given)
    blueprint, draft = torch_network.translate(model, input_shape, given)
    _require_same(model, assemble(blueprint, draft.weights, given), blueprint.input_shape, given)
    return _write(blueprint, draft.weights, tuple(draft.notes), folder, given)


def _write(
    blueprint: Blueprint, weights: dict[str, torch.Tensor], notes: tuple[str, ...], folder: Path, where: str
) -> Imported:
    model = assemble(blueprint, weights, where).eval()
    with torch.no_grad():
        graph = lower(fold_batch_norms(model), blueprint.input_shape)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    sha256 = save_blueprint(folder, blueprint, weights)
    return Imported(folder, sha256, blueprint, graph, n_outputs(blueprint), n_parameters, notes)


@torch.no_grad()
def _require_same(model: nn.Module, found: nn.Module, input_shape: tuple[int, int, int], where: str) -> None:
    """Raise ModelError unless both answer alike to random images."""
    height, width, channels = input_shape
    random = np.random.default_rng(0).standard_normal((2, channels, height, width)).astype(np.float32)
    images = torch.from_numpy(random)
    wanted, given = model.eval()(images).flatten(1), found.eval()(images)
    tolerance = 1e-4 * float(wanted.abs().max())
    answers = (given, given.softmax(dim=1), given.log_softmax(dim=1))  # a softmax at the end is dropped
    is_like = [wanted.shape == y.shape and torch.allclose(wanted, y, rtol=1e-3, atol=tolerance) for y in answers]
    if not any(is_like):
        raise ModelError(f"{where}: the imported network answers differently; its forward does what its trace hides")
