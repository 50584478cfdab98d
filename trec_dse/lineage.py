"""What a training descends from: which parents it shares with others, and how many epochs it still takes.

Every choice of TREC on a pruned network starts from the same pruned parent, every pruning from the same dense parent
(`course.py`). So the first candidate of a family is dear, and its relatives are cheap.
"""

from dataclasses import dataclass, field, replace

from trec_dse.candidate import Candidate, PruningRecipe, QuantizationRecipe, Recipe, content_key, plain_data
from trec_dse.codec import unstructure


@dataclass(frozen=True)
class Lineage:
    """A candidate's parents, by hashes of what they depend on within one study, and the epochs of each step.

    Attributes:
        network: hash of what is trained; candidates of equal networks are answered by one training.
        dense, pruned: the parents; epochs, fine_tuning: what each of them takes; later: all phases that are its own.
    """

    network: str
    dense: str
    pruned: str
    epochs: int
    fine_tuning: int
    later: int

    @property
    def whole(self) -> int:
        """The epochs of all steps, at least 1."""
        return max(1, self.epochs + self.fine_tuning + self.later)


def as_dense(candidate: Candidate) -> Candidate:
    """The candidate with nothing left of it but what its dense training depends on."""
    recipe, none = candidate.recipe, Recipe()
    training = replace(recipe.training, layer_distillation=0.0)
    if not training.teacher:
        training = replace(training, distillation=0.0, temperature=1.0)
    dense = replace(
        recipe,
        fine_tune_epochs=0,
        trec_epochs=0,
        hash_gradient=none.hash_gradient,
        kernel_surrogate=none.kernel_surrogate,
        hash_start=none.hash_start,
        hash_seed=none.hash_seed,
        n_calibration=none.n_calibration,
        n_validation=none.n_validation,
        training=training,
        pruning=PruningRecipe(),
        quantization=QuantizationRecipe(),
    )
    return replace(candidate, trec=None, pruning={}, recipe=dense, kernels={})


def lineage(candidate: Candidate, network: str) -> Lineage:
    """Where a candidate comes from; `network` is the hash of what is trained."""
    recipe = candidate.recipe
    dense = content_key(plain_data(as_dense(candidate)))
    method = {"pruning": dict(candidate.pruning), "method": unstructure(recipe.pruning)}
    if candidate.prunes_weights:
        method["kernels"] = plain_data(candidate)["kernels"]
    pruned = content_key({"dense": dense, "fine_tuning": recipe.fine_tune_epochs, **method})
    whole_numbers = recipe.quantization.qat_epochs + recipe.quantization.frozen_epochs
    masks = candidate.pruning if recipe.pruning.unit == "channels" else candidate.prunes_weights
    if masks and recipe.pruning.schedule == "agp":
        dense = pruned  # pruned while it is trained, so that nothing dense is shared
    return Lineage(network, dense, pruned, recipe.epochs, recipe.fine_tune_epochs, recipe.trec_epochs + whole_numbers)


@dataclass
class Trained:
    """What is trained already, of all lineages of a study."""

    _dense: dict[str, float] = field(default_factory=dict)  # shares of the epochs
    _pruned: set[str] = field(default_factory=set)
    _networks: set[str] = field(default_factory=set)

    def note(self, line: Lineage, share: float) -> None:
        """`share` of the dense epochs are trained; with 1 all that comes after them is as well."""
        self._dense[line.dense] = max(share, self._dense.get(line.dense, 0.0))
        if share >= 1:
            self._pruned.add(line.pruned)
            self._networks.add(line.network)

    def knows(self, line: Lineage) -> bool:
        """Whether its network is trained to the end."""
        return line.network in self._networks

    def left(self, line: Lineage) -> float:
        """The epochs that it takes to train such a candidate to the end, 1 at the least."""
        epochs: float = line.later
        if line.pruned not in self._pruned:
            epochs += line.fine_tuning + line.epochs * (1 - self._dense.get(line.dense, 0.0))
        return max(1.0, epochs)
