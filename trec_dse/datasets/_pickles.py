"""Read the pickled batches of CIFAR-10 and ImageNet 64x64 without letting them run anything.

A pickle is a small program that may name any importable function. This reader knows the few names that an array of
bytes is made of, and refuses all others before they are looked up.
"""

import io
import pickle  # only ever behind the checks below
import pickletools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trec_dse.errors import DatasetError


@dataclass(frozen=True)
class BatchFormat:
    """A published kind of batch: square RGB images of `side` pixels, plane by plane, and a list of `classes`.

    Attributes:
        protocol: the newest pickle protocol that the published files use.
    """

    title: str
    side: int
    classes: range
    protocol: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return 3 * self.side**2


CIFAR10 = BatchFormat("CIFAR-10 batch", 32, range(10), 2)


class _ElementType:
    """Stands for `numpy.dtype`: remembers its name, such as "u1"."""

    def __init__(self, name: str | bytes, *_: object) -> None:
        self.name = name if isinstance(name, str) else name.decode("latin1")

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment mean nothing for bytes."""


class _Array:
    """Stands for `numpy.ndarray`, whose own way out of a pickle trusts its input and can crash the interpreter."""

    shape: object = None
    element_type: object = None
    content: object = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array's state has five parts")
        _, self.shape, self.element_type, _, self.content = state


def _bytes_of(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 spell bytes: characters 0 to 255 in a string."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}")
    return text.encode(encoding)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _ElementType,
    ("_codecs", "encode"): _bytes_of,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to the outside object {pid!r}")


def _require_modest(content: bytes, protocol: int) -> None:
    """Refuse steps newer than the published files' protocol, or that would reserve memory without end."""
    for step, argument, _ in pickletools.genops(content):
        if step.proto > protocol:
            raise pickle.UnpicklingError(f"it needs step {step.name} of protocol {step.proto}")
        if "PUT" in step.name and isinstance(argument, int) and argument > len(content):
            raise pickle.UnpicklingError(f"it keeps its value number {argument}")


def read_batch(
    content: bytes, where: str, kind: BatchFormat = CIFAR10
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (n, side, side, 3) and labels (n,), from 0, of one official batch; raises DatasetError, naming `where`,
    for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged text can hold escapes that Python is about to give up
            _require_modest(content, kind.protocol)
            batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
        OverflowError,
    ) as problem:
        raise DatasetError(f"{where}: not a {kind.title}: {problem}") from problem
    if not isinstance(batch, dict):
        raise DatasetError(f"{where}: not a {kind.title}: it holds a {type(batch).__name__} instead of a dict")
    rows, labels = _pixels(_member(batch, "data"), where, kind), _member(batch, "labels")
    if not isinstance(labels, list) or not all(type(label) is int and label in kind.classes for label in labels):
        first, last = kind.classes[0], kind.classes[-1]
        raise DatasetError(f"{where}: holds no list 'labels' of classes {first} to {last}")
    return images_and_labels(rows, np.array(labels, dtype=np.int64), where, kind)


def images_and_labels(
    rows: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], where: str, kind: BatchFormat
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (n, side, side, 3) of rows (n, row_bytes) that hold plane after plane, and labels counted from 0."""
    if len(labels) != len(rows):
        raise DatasetError(f"{where}: {len(labels)} labels found, {len(rows)} expected, one per image")
    images = rows.reshape(-1, 3, kind.side, kind.side).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels - kind.classes[0]


def _member(batch: dict[Any, Any], name: str) -> object:
    """The value of a key that Python 2 wrote as bytes and Python 3 as text."""
    return batch.get(name.encode(), batch.get(name))


def _pixels(data: object, where: str, kind: BatchFormat) -> npt.NDArray[np.uint8]:
    """The array (n, row_bytes) that `data` stands for."""
    shape, size = data.shape if isinstance(data, _Array) else None, kind.row_bytes
    if isinstance(data, _Array) and isinstance(data.element_type, _ElementType) and data.element_type.name == "u1":
        content = data.content
        if isinstance(content, bytes) and shape == (len(content) // size, size) and len(content) % size == 0:
            return np.frombuffer(content, np.uint8).reshape(-1, size)
    raise DatasetError(f"{where}: holds no array 'data' of bytes, n x {size}; its shape is {shape}")
