"""1,797 handwritten digits of 8x8 pixels (UCI, 1998), as bundled with scikit-learn: needs no files."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from trec_dse.datasets._files import PublishedFile
from trec_dse.datasets._types import Dataset, Split, stratified_order

INPUT_SHAPE, N_CLASSES = (8, 8, 1), 10
FILES: tuple[PublishedFile, ...] = ()


def load(root: Path) -> Dataset:
    """Stratified 60 / 20 / 20 % for training, validation and test, always the same; `root` is not looked at."""
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    everything = Split(images, bunch.target.astype(np.int64))
    order = stratified_order(everything.labels, seed=0)
    n_train, n_validation = round(0.6 * len(order)), round(0.2 * len(order))
    parts = np.split(order, [n_train, n_train + n_validation])
    train, validation, test = (everything.take(np.sort(part)) for part in parts)
    return Dataset.of("digits", train, validation, test)
