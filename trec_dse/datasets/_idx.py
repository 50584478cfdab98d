"""Read the IDX format of the MNIST files: a magic number, the dimensions, then bytes."""

import gzip
import math
import struct
import zlib

import numpy as np
import numpy.typing as npt

from trec_dse.errors import DatasetError

_UINT8 = 0x08


def read_idx(compressed: bytes, dimensions: int, where: str) -> npt.NDArray[np.uint8]:
    """The uint8 array of a gzipped IDX file; raises DatasetError, naming `where`, unless it has that many dimensions
    and exactly the bytes that its header announces."""
    try:
        content = gzip.decompress(compressed)
    except (OSError, EOFError, zlib.error) as problem:
        raise DatasetError(f"{where}: not a whole gzip file ({problem}); fetch the file again") from problem
    header = 4 + 4 * dimensions
    magic = bytes((0, 0, _UINT8, dimensions))
    if len(content) < header or content[:4] != magic:
        raise DatasetError(f"{where}: starts with {content[:4].hex()}, expected the IDX header {magic.hex()}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DatasetError(f"{where}: {len(content)} bytes found after decompression, {expected} expected")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
