"""The generated C as a shared library on this machine: the int8 network over a whole data set, fast."""

import ctypes
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from trec_dse.device import Int8Array
from trec_dse.resources import package_folder
from trec_dse.toolchain import Compiler, build_host_library, find_host_compiler

_RUNNER = Path(__file__).with_name("host_runner.c")


@dataclass(frozen=True)
class HostRun:
    """`outputs`: int8 (n, output bytes); `n_clusters`: (n, TREC layers), N_c summed over the slices."""

    outputs: Int8Array
    n_clusters: npt.NDArray[np.uint32]


class HostNetwork:
    """A compiled network; a context manager, for its library lies in a temporary folder."""

    def __init__(self, folder: tempfile.TemporaryDirectory[str], library: Path, sizes: tuple[int, int, int]) -> None:
        self._folder = folder
        self._library = ctypes.CDLL(str(library))
        self._input_bytes, self._output_bytes, self._n_layers = sizes

    @classmethod
    def build(
        cls,
        files: Mapping[str, str],
        kernels: Sequence[Path],
        sizes: tuple[int, int, int],
        compiler: Compiler | None = None,
    ) -> Self:
        """Compile generated `files` (path -> text) with the operators' `kernels`.

        `sizes`: input bytes, output bytes, TREC layers. Raises ToolchainError if there is no compiler.
        """
        folder = tempfile.TemporaryDirectory(prefix="trec_host_")
        root = Path(folder.name)
        runtime = package_folder("runtime")
        shared = sorted((runtime / "common").glob("*.c"))
        sources = [_RUNNER, *shared, *(path for path in kernels if path.suffix == ".c")]
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if path.suffix == ".c":
                sources.append(path)
        headers = sorted({path.parent for path in kernels})
        include = [root / "network", *(runtime / name for name in ("include", "arch", "common")), *headers]
        library = root / "network.so"
        build_host_library(sources, include, library, compiler or find_host_compiler())
        return cls(folder, library, sizes)

    def run(self, images: Int8Array) -> HostRun:
        """Answers to int8 images (n, H, W, C), flattened or not."""
        rows = np.ascontiguousarray(images.reshape(len(images), -1))
        if rows.dtype != np.int8 or rows.shape[1] != self._input_bytes:
            raise ValueError(f"expected int8 images of {self._input_bytes} bytes, found {rows.dtype} {rows.shape}")
        outputs = np.empty((len(rows), self._output_bytes), dtype=np.int8)
        counts = np.zeros((len(rows), max(1, self._n_layers)), dtype=np.uint32)
        pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (rows, outputs, counts))
        source, sink, counters = pointers
        self._library.trec_host_run(source, ctypes.c_int32(len(rows)), sink, counters)
        return HostRun(outputs, counts[:, : self._n_layers])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()
