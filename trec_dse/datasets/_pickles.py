"""Read CIFAR's pickled batches without letting them run anything.

A pickle is a small program that may name any importable function. This reader knows the few names that an array of
bytes is made of, and refuses all others before they are looked up.
"""

import io
import pickle  # only ever behind the checks below
import pickletools
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from trec_dse.errors import DatasetError


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


def _require_modest(content: bytes) -> None:
    """Refuse steps newer than the published files' protocol 2, or that would reserve memory without end."""
    for step, argument, _ in pickletools.genops(content):
        if step.proto > 2:
            raise pickle.UnpicklingError(f"it needs step {step.name} of protocol {step.proto}")
        if "PUT" in step.name and isinstance(argument, int) and argument > len(content):
            raise pickle.UnpicklingError(f"it keeps its value number {argument}")


def read_batch(content: bytes, where: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (n, 32, 32, 3) and labels (n,) of one official CIFAR-10 batch; raises DatasetError, naming `where`, for
    anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged text can hold escapes that Python is about to give up
            _require_modest(content)
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
        raise DatasetError(f"{where}: not a CIFAR-10 batch: {problem}") from problem
    if not isinstance(batch, dict):
        raise DatasetError(f"{where}: not a CIFAR-10 batch: it holds a {type(batch).__name__} instead of a dict")
    data, labels = _pixels(batch.get(b"data"), where), batch.get(b"labels")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise DatasetError(f"{where}: holds no list 'labels' of classes 0 to 9")
    if len(labels) != len(data):
        raise DatasetError(f"{where}: {len(labels)} labels found, {len(data)} expected, one per image")
    images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, dtype=np.int64)


def _pixels(data: object, where: str) -> npt.NDArray[np.uint8]:
    """The array (n, 3072) that `data` stands for."""
    shape = data.shape if isinstance(data, _Array) else None
    if isinstance(data, _Array) and isinstance(data.element_type, _ElementType) and data.element_type.name == "u1":
        content = data.content
        if isinstance(content, bytes) and shape == (len(content) // 3072, 3072) and len(content) % 3072 == 0:
            return np.frombuffer(content, np.uint8).reshape(-1, 3072)
    raise DatasetError(f"{where}: holds no array 'data' of bytes, n x 3072; its shape is {shape}")
