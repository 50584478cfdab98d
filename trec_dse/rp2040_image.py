"""Finish an RP2040's ELF: the checksum of its second boot stage, and the same image as a UF2 file for its USB drive.

Needs nothing but Python, for an exported folder carries this file along: `python3 rp2040_image.py firmware.elf`.
RP2040 Datasheet, 2.8.1.3.1 (checksum); the UF2 format: github.com/microsoft/uf2.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

FLASH_ORIGIN = 0x1000_0000
STAGE_BYTES = 256  # with the checksum
_POLYNOMIAL, _START = 0x04C1_1DB7, 0xFFFF_FFFF
_LOAD = 1  # a program header of what is loaded
_UF2_BLOCK = struct.Struct("<8I476xI")
_UF2_FAMILY, _UF2_HAS_FAMILY = 0xE48B_FF56, 0x2000


def checksum(data: bytes) -> int:
    """CRC-32 as the boot ROM computes it: the highest bit first, and nothing is inverted at the end."""
    crc = _START
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ _POLYNOMIAL if crc >> 31 else crc << 1) & 0xFFFF_FFFF
    return crc


def seal(elf: bytes) -> bytes:
    """The ELF with the checksum of its second boot stage in place. Raises `ValueError` if it has no such stage."""
    for address, offset, size in _segments(elf):
        if address == FLASH_ORIGIN and size >= STAGE_BYTES:
            end = offset + STAGE_BYTES - 4
            return elf[:end] + struct.pack("<I", checksum(elf[offset:end])) + elf[end + 4 :]
    raise ValueError(f"nothing is loaded at {FLASH_ORIGIN:#x}, where an RP2040 looks for its second boot stage")


def uf2(elf: bytes) -> bytes:
    """What is copied to the drive that the chip shows while its button BOOTSEL is held: blocks of 256 bytes."""
    pages: dict[int, bytearray] = {}
    for address, offset, size in _segments(elf):
        for i, byte in enumerate(elf[offset : offset + size]):
            place = address + i
            pages.setdefault(place & ~255, bytearray(256))[place & 255] = byte
    blocks = []
    for number, (address, page) in enumerate(sorted(pages.items())):
        head = (0x0A32_4655, 0x9E5D_5157, _UF2_HAS_FAMILY, address, 256, number, len(pages), _UF2_FAMILY)
        block = bytearray(_UF2_BLOCK.pack(*head, 0x0AB1_6F30))
        block[32 : 32 + 256] = page
        blocks.append(bytes(block))
    return b"".join(blocks)


def _segments(elf: bytes) -> Iterator[tuple[int, int, int]]:
    """(load address, offset in the file, bytes) of all that is loaded from a 32-bit little-endian ELF."""
    if elf[:6] != b"\x7fELF\x01\x01" or len(elf) < 52:
        raise ValueError("not an ELF file of a 32-bit little-endian machine")
    (start,) = struct.unpack_from("<I", elf, 28)
    size, count = struct.unpack_from("<2H", elf, 42)
    for i in range(count):
        kind, offset, _, address, n_bytes = struct.unpack_from("<5I", elf, start + i * size)
        if kind == _LOAD and n_bytes:
            yield address, offset, n_bytes


def main(path: Path) -> None:
    """Seal the ELF at `path` in place, and write the UF2 beside it."""
    sealed = seal(path.read_bytes())
    path.write_bytes(sealed)
    path.with_suffix(".uf2").write_bytes(uf2(sealed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
