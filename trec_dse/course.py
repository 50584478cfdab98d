"""The training of one candidate, phase by phase, to any rung; what candidates have in common is trained once.

    dense -> prune -> fine-tune -> fold -> TREC -> fine-tune -> lower -> calibrate -> train the int8 network -> quantize

The dense training follows the learning rate that its recipe has for all of its epochs. A rung pauses it: what is judged
there is a branch, a copy that goes through all later phases, shortened in proportion, their learning rates falling to
zero. The next rung takes the dense training up again, bit for bit, and branches anew. So the last rung gives the very
network that a training without rungs gives.

    parents/KEY/dense.safetensors      the dense training after its last epoch, until it is complete
    parents/KEY/after_N.safetensors    a network after N epochs: dense, or pruned and fine-tuned
    networks/KEY/training/             the later phases of a candidate after their last epoch

A parent's KEY is the hash of all that it depends on: every candidate of the same network and recipe has the same.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from trec_dse import __version__
from trec_dse.candidate import (
    Candidate,
    Recipe,
    TrecConfig,
    content_key,
    plain_data,
)
from trec_dse.checkpoint import epochs_done
from trec_dse.codec import unstructure
from trec_dse.datasets import Dataset
from trec_dse.durable import Turn, locked, write_bytes
from trec_dse.errors import StudyError
from trec_dse.four_bits import FourBitNetwork, in_four_bits, pixel_levels
from trec_dse.graph import Graph, QuantizedGraph
from trec_dse.importance import Ranking
from trec_dse.lineage import as_dense
from trec_dse.lower import lower
from trec_dse.memory import settled
from trec_dse.networks import build_model
from trec_dse.prune import GradualPruning, Removals, agp_progress, fold_batch_norms, prune
from trec_dse.qat import QatNetwork
from trec_dse.quantize import calibrate, quantize, quantize_own_scales, quantize_with
from trec_dse.reuse import telling_kernels_first
from trec_dse.sparse.apply import (
    apply_kernels,
    dense_layers,
    hold_patterns,
    layers_with_zeros,
    resolve_kernels,
    shares_of_zeros,
)
from trec_dse.sparse.held import HeldZeros
from trec_dse.train import Aids, train
from trec_dse.trec.apply import apply_trec, conv_shapes, draw_hashes
from trec_dse.zeros import without_zeros

PRUNED_RATE, TREC_RATE, QAT_RATE = 0.4, 0.1, 0.1  # learning rates of the fine-tuning phases, as shares of the recipe's
FOUR_BITS_RATE, FROZEN_RATE = 0.4, 0.1
AFTER_CLUSTERING = ("trec", "folded", "qat")  # phases in which the same network, dense, is the teacher
WHOLE = ("qat", "four_bits", "frozen")  # phases in which the network computes with whole numbers
N_RANKING = 256  # training images by which channels are ranked

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """The int8 network, the float network that it was made from, and that one's accuracy before int8."""

    graph: QuantizedGraph
    source: Graph
    float_accuracy: float


@dataclass
class Course:
    """A candidate's training up to `epochs` of its dense epochs.

    Attributes:
        parents: folder of what is shared with other candidates; folder: of this candidate's own phases.
        turn: gives a parent's folder to one process at a time.
        n_trained: epochs that were really run.
    """

    candidate: Candidate
    dataset: Dataset
    epochs: int
    progress: Say
    parents: Path
    folder: Path
    turn: Turn = locked
    n_trained: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._recipe = self.candidate.recipe.shortened(self.epochs)

    def run(self, configs: dict[str, TrecConfig]) -> Trained:
        """Train; `folder` then holds the last epochs of the later phases, until `clear`."""
        recipe, dataset = self._recipe, self.dataset
        images = calibration_images(dataset, recipe.n_calibration)
        dense = fold_batch_norms(self._fine_tuned())
        if recipe.reused_kernels == "telling":
            dense = telling_kernels_first(dense, configs, images)
        shapes = conv_shapes(dense, dataset.input_shape)
        kernels = resolve_kernels(self.candidate.kernels, shapes, dense_layers(dense))
        stored = apply_kernels(dense, kernels)
        model = with_trec(stored, self.candidate, configs, images)
        hold_patterns(model, stored)
        accuracy = self._phase("trec" if configs else "folded", model, teacher=dense)
        source = lower(model.eval(), dataset.input_shape)
        if recipe.quantization.bits == 4:
            return self._in_four_bits(source, images, accuracy)
        if recipe.quantization.qat_epochs:
            ranges, learns = calibrate(source, nhwc(images), recipe.quantization), recipe.hash_gradient != "none"
            network = QatNetwork(source, ranges, learn_hashes=learns, holding=layers_with_zeros(model))
            self._phase("qat", network, teacher=dense)
            source = network.graph
            graph = quantize_with(source, network.ranges, nhwc(images))
        else:
            graph = quantize(source, nhwc(images), recipe.quantization)
        return Trained(settled(without_zeros(graph)), source, accuracy)

    def _in_four_bits(self, source: Graph, images: Tensor, accuracy: float) -> Trained:
        """The 4-bit network: its exponents learn with its weights at first, and are left alone in the end."""
        network = FourBitNetwork(four_bit_graph(source, self.dataset, images))
        teacher = self._teacher()
        self._phase("four_bits", network, teacher=teacher)
        network.freeze()
        self._phase("frozen", network, teacher=teacher)
        return Trained(quantize_own_scales(network.graph), network.graph, accuracy)

    def clear(self) -> None:
        """Remove what is needed only to go on after a crash; to be called once the result is safe."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _dense(self) -> nn.Module:
        """The network after its dense training so far."""
        model = self._untrained()
        folder = self.parents / parent_key(self.candidate, self.dataset)

        def learn(snapshot: Path) -> None:
            checkpoint = folder / "dense.safetensors"
            # one that is further on can no longer give this state
            is_usable = epochs_done(checkpoint) <= self.epochs
            self._phase("dense", model, teacher=self._teacher(), checkpoint=checkpoint if is_usable else None)
            _save(model, snapshot)
            if self.epochs == self._recipe.epochs:
                checkpoint.unlink(missing_ok=True)

        self._once(folder / f"after_{self.epochs}.safetensors", model, learn)
        return model

    def _fine_tuned(self) -> nn.Module:
        """The network without the channels, or single weights, that the candidate prunes, fine-tuned."""
        candidate, recipe, shape = self.candidate, self._recipe, self.dataset.input_shape
        if not candidate.pruning and not recipe.fine_tune_epochs and not candidate.prunes_weights:
            return self._dense()
        folder = self.parents / pruned_key(candidate, self.dataset, self.epochs)
        # which channels go does not change the shapes
        model = self._untrained()
        model = (prune(model, shape, candidate.pruning) if candidate.pruning else model).eval()

        def learn(snapshot: Path) -> None:
            chosen = self._pruned()
            zeros = HeldZeros(chosen, self._zeros())
            zeros.mask(1.0)
            self._phase("pruned", chosen, teacher=self._teacher(), checkpoint=folder / "fine_tuned.safetensors")
            zeros.release()
            _save(chosen, snapshot)
            (folder / "fine_tuned.safetensors").unlink(missing_ok=True)

        self._once(folder / f"after_{self.epochs}.safetensors", model, learn)
        return model

    def _pruned(self) -> nn.Module:
        """The network after its dense training, in which channels or single weights may have been masked."""
        method, shares, shape = self._recipe.pruning, self.candidate.pruning, self.dataset.input_shape
        masked: Removals = ()
        if method.schedule == "agp" and self.candidate.prunes_weights:
            model = self._untrained()
            self._mask_gradually(model, HeldZeros(model, self._zeros()))
        elif method.schedule == "agp" and method.unit == "channels" and shares:
            model = self._untrained()
            gradual = GradualPruning(model, shape, shares, ranking=self._ranking())
            self._mask_gradually(model, gradual)
            masked = gradual.masked
        else:
            model = self._dense()
        return prune(model, shape, shares, ranking=self._ranking(), masked=masked) if shares else model

    def _mask_gradually(self, model: nn.Module, gradual: GradualPruning | HeldZeros) -> None:
        """Dense training with more and more of it masked, which no checkpoint holds."""

        def after_epoch(epoch: int) -> None:
            due = agp_progress(epoch, self._recipe.epochs, self._recipe.pruning)
            if due:
                gradual.mask(due)

        self._phase("dense", model, teacher=self._teacher(), after_epoch=after_epoch)
        gradual.release()

    def _zeros(self) -> dict[str, float]:
        """Share of the single weights of every layer that go by the recipe's schedule."""
        if not self.candidate.prunes_weights:
            return {}
        return shares_of_zeros(self._untrained(), self.candidate.kernels, self.dataset.input_shape)

    def _teacher(self) -> nn.Module | None:
        """The network after which all phases before clustering, and those in 4 bits, are modelled, if there is one."""
        candidate = taught_by(self.candidate)
        if candidate is None:
            return None
        course = Course(
            candidate,
            self.dataset,
            candidate.recipe.epochs,
            lambda text: self.progress(f"teacher's {text}"),
            self.parents,
            self.folder,
            self.turn,
        )
        model = course._dense()
        self.n_trained += course.n_trained
        return model

    def _ranking(self) -> Ranking:
        recipe = self._recipe
        chosen = self.dataset.train.stratified(N_RANKING, recipe.seed)
        labels = torch.from_numpy(chosen.labels.copy())
        return Ranking(recipe.pruning.heuristic, self.dataset.normalise(chosen.images), labels, recipe.seed)

    def _untrained(self) -> nn.Module:
        return build_model(self.candidate, self.dataset.input_shape, self.dataset.n_classes)

    def _once(self, snapshot: Path, model: nn.Module, learn: Callable[[Path], None]) -> None:
        """Put the weights of `snapshot` into `model`; if there are none yet, only one process makes them."""
        with self.turn(snapshot.parent):
            if not snapshot.is_file():
                learn(snapshot)
            try:
                model.load_state_dict(load_file(snapshot))
            except (SafetensorError, RuntimeError, OSError) as problem:
                raise StudyError(f"{snapshot}: no weights of this network: {problem}; remove it") from problem
        model.eval()

    def _phase(
        self,
        name: str,
        model: nn.Module,
        *,
        teacher: nn.Module | None = None,
        checkpoint: Path | None = None,
        after_epoch: Callable[[int], None] | None = None,
    ) -> float:
        """Train `model` through the phase `name`; `after_epoch` changes it in ways that no checkpoint holds."""
        recipe = _as_taught(self._recipe, name)
        epochs, share = {
            "dense": (recipe.epochs, 1.0),
            "pruned": (recipe.fine_tune_epochs, PRUNED_RATE),
            "trec": (recipe.trec_epochs, TREC_RATE),
            "folded": (recipe.trec_epochs, TREC_RATE),
            "qat": (recipe.quantization.qat_epochs, QAT_RATE),
            "four_bits": (recipe.quantization.qat_epochs, FOUR_BITS_RATE),
            "frozen": (recipe.quantization.frozen_epochs, FROZEN_RATE),
        }[name]

        def on_epoch(epoch: int, n_epochs: int, loss: float, accuracy: float) -> None:
            self.n_trained += 1
            self.progress(f"{name} epoch {epoch}/{n_epochs}, loss {loss:.3f}, {100 * accuracy:.1f} %")
            if after_epoch is not None:
                after_epoch(epoch)

        if name not in ("dense", "pruned"):
            checkpoint = self.folder / f"{name}_{self.epochs}.safetensors"
        accuracy = train(
            model,
            self.dataset,
            recipe,
            epochs=epochs,
            learning_rate=share * recipe.learning_rate,
            device="cuda" if torch.cuda.is_available() else "cpu",
            on_epoch=on_epoch,
            aids=Aids(teacher, checkpoint, self.epochs if name == "dense" else None),
        )
        model.cpu()  # pruning, lowering and quantising are quick and the same everywhere
        return accuracy


def parent_key(candidate: Candidate, dataset: Dataset) -> str:
    """Hash of all that a dense training depends on."""
    versions = {"trec_dse": __version__, "torch": torch.__version__}
    return content_key({"network": plain_data(as_dense(candidate)), "data": dataset.sha256, "versions": versions})


def taught_by(candidate: Candidate) -> Candidate | None:
    """The dense candidate that teaches this one, by its recipe and without a teacher of its own; None if none does."""
    training = candidate.recipe.training
    if not training.teacher:
        return None
    alone = replace(training, teacher={}, distillation=0.0, layer_distillation=0.0)
    return replace(
        candidate,
        network_args={**candidate.network_args, **training.teacher},
        trec=None,
        pruning={},
        kernels={},
        recipe=replace(candidate.recipe, training=alone),
    )


def pruned_key(candidate: Candidate, dataset: Dataset, epochs: int) -> str:
    """Hash of all that a pruned and fine-tuned network depends on, after `epochs` of dense training."""
    recipe = candidate.recipe.shortened(epochs)
    found = {
        "parent": parent_key(candidate, dataset),
        "pruning": dict(candidate.pruning),
        "method": unstructure(recipe.pruning),
        "fine_tune_epochs": recipe.fine_tune_epochs,
        "epochs": epochs,
    }
    if candidate.prunes_weights:
        found["kernels"] = plain_data(candidate)["kernels"]
    return content_key(found)


def with_trec(model: nn.Module, candidate: Candidate, configs: dict[str, TrecConfig], images: Tensor) -> nn.Module:
    """A copy of a folded `model` whose convolutions named in `configs` cluster, with hashes from `images`."""
    recipe = candidate.recipe
    changed = apply_trec(
        model,
        configs,
        images,
        hash_gradient=recipe.hash_gradient,
        kernel_surrogate=recipe.kernel_surrogate,
        hash_start=recipe.hash_start,
    )
    if recipe.hash_start == "gaussian":
        draw_hashes(changed, recipe.hash_seed)
    return changed


def four_bit_graph(source: Graph, dataset: Dataset, images: Tensor) -> Graph:
    """A lowered graph for the kernels of 4 bits, its scales fitted to `images` (n, C, H, W)."""
    return in_four_bits(source, nhwc(images), pixel_levels(dataset.mean, dataset.std))


def calibration_images(dataset: Dataset, n: int) -> Tensor:
    """`n` normalised training images (n, C, H, W)."""
    return dataset.normalise(dataset.train.stratified(n).images)


def nhwc(images: Tensor) -> Tensor:
    """Images (n, C, H, W) as (n, H, W, C)."""
    return images.permute(0, 2, 3, 1).contiguous()


def _save(model: nn.Module, path: Path) -> None:
    write_bytes(path, save({name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}))


def _as_taught(recipe: Recipe, phase: str) -> Recipe:
    """The recipe of one phase: what counts whole numbers does so without bfloat16, which cannot beyond 256.

    Layers are compared only with those of the same network, which a teacher of other arguments is not.
    """
    training = recipe.training
    if phase in WHOLE:
        training = replace(training, mixed_precision=False)
    if phase not in AFTER_CLUSTERING:
        training = replace(training, layer_distillation=0.0)
    return replace(recipe, training=training)
