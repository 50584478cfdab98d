"""What a data set is: three splits of uint8 images and how they are normalised."""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
_COUNTED_AT_ONCE = 8192  # images; counting takes eight bytes per pixel


@dataclass(frozen=True, eq=False)
class Split:
    """Images (n, H, W, C) with their classes (n,); both arrays are read-only."""

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        self.images.flags.writeable = False
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "Split":
        """The images at `indices`, in that order."""
        return Split(self.images[indices], self.labels[indices])

    def stratified(self, n_images: int, seed: int = 0) -> "Split":
        """`n_images` images whose classes are as frequent as in the whole; all of it where that is not more.

        They are drawn by `seed` and keep their order.
        """
        if n_images >= len(self):
            return self
        order = stratified_order(self.labels, seed)
        return self.take(np.sort(order[:n_images]))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with its fixed splits.

    Attributes:
        mean, std: per channel, of the training images divided by 255.
        sha256: of all images and labels in the order train, validation, test: 64 hex digits.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    n_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str

    @classmethod
    def of(cls, name: str, train: Split, validation: Split, test: Split) -> Self:
        """A data set from its splits; counts classes, measures mean and deviation, hashes the content."""
        counts = np.zeros((train.images.shape[3], 256), dtype=np.int64)
        for first in range(0, len(train), _COUNTED_AT_ONCE):
            part = train.images[first : first + _COUNTED_AT_ONCE]
            counts += [np.bincount(part[..., c].ravel(), minlength=256) for c in range(len(counts))]
        values = np.arange(256) / 255
        mean = counts @ values / counts.sum(axis=1)
        variance = counts @ values**2 / counts.sum(axis=1) - mean**2
        digest = hashlib.sha256()
        for split in (train, validation, test):
            digest.update(np.ascontiguousarray(split.images).data)
            digest.update(np.ascontiguousarray(split.labels).data)
        n_classes = 1 + max(int(split.labels.max()) for split in (train, validation, test))
        std = np.sqrt(np.maximum(variance, 1e-12))
        return cls(
            name, train, validation, test, n_classes, tuple(mean.tolist()), tuple(std.tolist()), digest.hexdigest()
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    def normalise(self, images: Images | Tensor) -> Tensor:
        """Network input, float32 (n, C, H, W), of uint8 images (n, H, W, C): (image / 255 - mean) / std.

        A tensor stays on its device.
        """
        pixels = images if isinstance(images, Tensor) else torch.from_numpy(images.copy())
        mean = torch.tensor(self.mean, device=pixels.device)
        std = torch.tensor(self.std, device=pixels.device)
        return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def stratified_order(labels: Labels, seed: int) -> npt.NDArray[np.int64]:
    """All indices in a seeded random order in which every prefix has the classes in their overall proportion."""
    random = np.random.RandomState(seed)  # its stream never changes between NumPy versions
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((labels, place)).astype(np.int64)


def hold_out(split: Split, n_images: int) -> tuple[Split, Split]:
    """All but `n_images`, and `n_images`, stratified by class and always the same."""
    order = stratified_order(split.labels, seed=0)
    return split.take(np.sort(order[n_images:])), split.take(np.sort(order[:n_images]))


def complete(train: Split, validation: Split | None, test: Split | None) -> tuple[Split, Split, Split]:
    """All three splits; one that is missing is a fifth of what `train` holds, stratified and always the same."""
    fifth = len(train) // 5
    if test is None:
        train, test = hold_out(train, fifth)
    if validation is None:
        train, validation = hold_out(train, fifth)
    return train, validation, test


def placeholder(name: str, input_shape: tuple[int, int, int], n_classes: int, n_images: int = 64) -> Dataset:
    """Smooth random images in the shape of a data set: enough for sizes and speed where the data are not at hand."""
    height, width, channels = input_shape
    random = np.random.default_rng(0)
    patches = random.normal(size=(n_images, height // 4 + 1, width // 4 + 1, channels))
    smooth = np.repeat(np.repeat(patches, 4, axis=1), 4, axis=2)[:, :height, :width]
    noisy = 128 + 50 * smooth + 8 * random.normal(size=smooth.shape)
    images = np.clip(noisy, 0, 255).astype(np.uint8)
    split = Split(images, np.arange(n_images, dtype=np.int64) % n_classes)
    return Dataset.of(name, split, split, split)
