"""Run a network on QEMU, an engine that is none of ours: the kernels' own object files, another memory map.

QEMU has none of the boards' chips, but it has their cores, on Arm's MPS2 boards. `emulated` is a target's core on such
a board; a firmware for it is built of the same objects, but for the port and the place where they are linked, so its
answers and its instructions must be those of the twin. QEMU has no cycles: those of its answers are 0. It has no
Cortex-M0+ on a board with room either; there its Cortex-M3 runs the code, which takes more than an M0+ would.
"""

import re
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO

from trec_dse.device import Inference, Int8Array
from trec_dse.errors import DeviceError, ToolchainError
from trec_dse.executors._owned import OwnedProcess, OwningExecutor
from trec_dse.resources import cache_folder
from trec_dse.target import Region, Target
from trec_dse.toolchain import build_host_library, find_host_compiler
from trec_dse.twin.image import load_image

PROGRAM = "qemu-system-arm"
DEFAULT_TIMEOUT_S = 300.0
HELLO_TIMEOUT_S = 60.0
_PLUGIN = Path(__file__).with_name("qemu_counter.c")
# AN385, AN386 and AN500 have the same memories and the same UART.
_MACHINES = {"cortex-m0plus": "an385", "cortex-m3": "an385", "cortex-m4": "an386", "cortex-m7": "an500"}
_CODE = Region("CODE", "flash", 0x0000_0000, 4 * 2**20)
_DATA = Region("DATA", "ram", 0x2000_0000, 4 * 2**20)
_UART = 0x4000_4000
_UART_HZ = 25_000_000


class QemuExecutor(OwningExecutor):
    """A `SerialExecutor` that owns QEMU and ends it on `close`. A fault of the core shows as silence.

    Attributes:
        n_instructions: of the latest inference, from the entry of `trec_net_run` to its return.
    """

    hello_timeout_s = HELLO_TIMEOUT_S
    n_instructions = 0

    def __init__(self, process: "_Qemu", timeout_s: float) -> None:
        super().__init__(process, "qemu", timeout_s)
        self._counts = process.counts

    def infer(self, image: Int8Array) -> Inference:
        """One inference, as for a board."""
        answer = super().infer(image)
        self.n_instructions = int(self._counts.readline())  # the plugin says it before the firmware answers
        return answer


class _Qemu(OwnedProcess):
    """QEMU with our plugin. `counts`: a line for every call of `trec_net_run`."""

    def __init__(self, elf: Path, target: Target) -> None:
        function = load_image(elf).address_of("trec_net_run")
        command = [_program(), "-M", f"mps2-{_MACHINES[target.core]}", "-kernel", str(elf)]
        line = "tcp:127.0.0.1:0,server=on,wait=on,nodelay=on"
        command += ["-display", "none", "-monitor", "none", "-serial", line]
        super().__init__([*command, "-plugin", f"{_plugin()},function={function:#x}"])
        assert self._process.stdout is not None and self._process.stderr is not None
        self.counts: IO[str] = self._process.stdout
        # It waits for whoever connects before it executes anything, and says where.
        said = self._process.stderr.readline()
        place = re.search(r"disconnected:tcp:(127\.0\.0\.1:\d+)", said)
        if place is None:
            self.end()
            raise DeviceError(f"{elf} did not start on QEMU: {said.strip() or 'it ended without a word'}")
        self.port = f"socket://{place[1]}"

    @staticmethod
    def message_of(text: str) -> str:
        """Its first line; registers follow."""
        return text.partition("\n")[0]


def emulated(target: Target) -> Target:
    """A target's core on the board that QEMU has with it: what to build a firmware for that `open` takes."""
    port = replace(target.serial, usart="UART0", base=_UART, clock_hz=_UART_HZ)
    return replace(
        target,
        name=f"qemu-{_MACHINES[target.core]}",
        platform="mps2",
        flash_region=_CODE.name,
        ram_region=_DATA.name,
        regions=(_CODE, _DATA),
        serial=port,
        power=None,
    )


def open(
    elf: Path, target: Target, *, timeout_s: float = DEFAULT_TIMEOUT_S, build_id: str | None = None
) -> QemuExecutor:
    """QEMU running `elf`, built for `emulated(target)`, introduced and ready. `timeout_s` bounds one inference.

    Raises `ToolchainError` without QEMU or a compiler for its plugin, `DeviceError` if the firmware does not start.
    """
    with ExitStack() as on_failure:
        process = _Qemu(elf, target)
        on_failure.callback(process.end)
        executor = QemuExecutor(process, timeout_s)
        on_failure.callback(executor.close)
        executor.introduce(build_id)
        on_failure.pop_all()
    return executor


def _program() -> str:
    path = shutil.which(PROGRAM)
    if path is None:
        raise ToolchainError(f"{PROGRAM}: not found; install the package qemu-system-arm, 7.2 or later")
    return path


@cache
def _plugin() -> Path:
    """The plugin as a library, compiled for the interface of the QEMU that is installed."""
    done = subprocess.run([_program(), "--version"], capture_output=True, text=True, timeout=60, check=True)
    version = re.search(r"version (\d+)\.(\d+)", done.stdout)
    # What is used of the interface is in all of its versions, but from 9.0 on QEMU takes no plugin of the first.
    interface = 2 if version is not None and int(version[1]) >= 9 else 1
    library = cache_folder() / "qemu" / f"counter_{interface}.so"
    build_host_library([_PLUGIN], [], library, find_host_compiler(), flags=[f"-DPLUGIN_API={interface}"])
    return library
