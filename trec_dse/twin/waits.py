"""What waiting for memory costs on a board: the caches and accelerators in front of it, and which memory is slow.

Without the twin's own packages, for what is priced knows it too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from trec_dse.target import Target

# Cortex-M4: the manual's rules give 0.927 of twelve published run times on average; 1078/1000 centres them.
M4_PERMILLE = 1078
# Cortex-M7: effective cost of a 32-byte line from Flash or SRAM1, set on seven published run times.
_M7_LINE = 4
_DTCM_ORIGIN = 0x2000_0000
_DTCM_BYTES: Mapping[str, int] = {"stm32f7": 64 * 1024, "stm32h7": 128 * 1024}
_LINE_BYTES: Mapping[str, int] = {"none": 8, "prefetch": 8, "art": 16}


def permille(target: Target) -> int:
    """Modelled cycles per thousand that the rules of a target's core give; corrects what they leave out."""
    return M4_PERMILLE if target.core in ("cortex-m3", "cortex-m4") else 1000


@dataclass(frozen=True)
class Cache:
    """A set-associative cache with least-recently-used replacement; `miss` in cycles.

    `reads_ahead`: the line behind the latest one is fetched meanwhile and costs nothing.
    """

    n_sets: int
    n_ways: int
    line_bytes: int
    miss: int
    reads_ahead: bool = False

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self.n_sets * self.n_ways * self.line_bytes


def in_front_of_flash(target: Target) -> tuple[Cache, Cache]:
    """For code and for data. What rests on no document is said in docs/boards.md."""
    flash, wait = target.flash, target.flash.wait_states
    if target.core == "cortex-m7":  # lines of 32 bytes, 2 and 4 ways (AN4667)
        return Cache(flash.code_bytes // 64, 2, 32, _M7_LINE), Cache(flash.data_bytes // 128, 4, 32, _M7_LINE)
    if flash.accelerator == "code_cache":  # nRF52: a miss is noticed one cycle late; every word of data is waited for
        return Cache(flash.code_bytes // 32, 2, 16, wait + 1), Cache(1, 1, 4, wait)
    if flash.accelerator == "serial":  # RP2040: two ways; each word is a transfer of its own
        both = Cache(flash.code_bytes // 8, 2, 4, wait)
        return both, both
    line = _LINE_BYTES[flash.accelerator]
    n_code, n_data = (max(1, size // line) for size in (flash.code_bytes, flash.data_bytes))
    reads_ahead = flash.accelerator == "prefetch"
    return Cache(1, n_code, line, wait, reads_ahead=reads_ahead), Cache(1, n_data, line, wait)


def slow_ranges(target: Target) -> tuple[tuple[int, int], ...]:
    """(first, behind) addresses of the memory that data are waited for in: Flash, and RAM behind an M7's cache."""
    flash, ram = target.region(target.flash_region), target.region(target.ram_region)
    of_flash = (flash.origin, flash.origin + flash.size)
    if target.core != "cortex-m7":
        return (of_flash,)
    coupled_end = _DTCM_ORIGIN + _DTCM_BYTES.get(target.platform, 0)
    return of_flash, (min(max(ram.origin, coupled_end), ram.origin + ram.size), ram.origin + ram.size)
