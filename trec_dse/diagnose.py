"""Why a board does not answer, or not as it should: one finding and one fix each, from cable to network."""

from pathlib import Path

from trec_dse.doctor import Check
from trec_dse.errors import DeviceError, DoesNotFitError, NoAnswerError, PortError, ToolchainError
from trec_dse.executors import serial
from trec_dse.firmware import build_firmware, core_needed
from trec_dse.measure import Manifest, read_manifest
from trec_dse.protocol import Hello
from trec_dse.target import Core

COMMON_BAUDS = (921_600, 460_800, 115_200, 1_000_000)
_WAIT_S = 0.5
# Each core runs what is built for the ones before it.
_CORES: tuple[Core, ...] = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7")


def firmware_checks(folder: Path) -> tuple[Check, ...]:
    """Whether an export folder's firmware links for its board and uses no instruction that the board's core lacks."""
    manifest = read_manifest(folder)
    try:
        firmware = build_firmware(folder, manifest.target)
    except DoesNotFitError as problem:
        fix = "export a smaller trial, or for a larger board: trec-dse pick STUDY --sram KIB --flash KIB"
        return (Check("memory", False, str(problem), fix),)
    except ToolchainError as problem:
        return (Check("build", False, str(problem), "change nothing in the folder but export it anew"),)
    room = f"{firmware.sram_bytes} B SRAM, {firmware.flash_bytes} B Flash of {manifest.target.name}"
    return (Check("memory", True, room), core_check(firmware.elf, manifest.target.core))


def core_check(elf: Path, core: Core) -> Check:
    """Whether the core has every instruction that the ELF was compiled to use."""
    needed = core_needed(elf)
    if _CORES.index(needed) <= _CORES.index(core):
        return Check("core", True, f"built for {needed} or later, runs on {core}")
    found = f"{elf.name} is built for {needed}, whose instructions a {core} lacks"
    return Check("core", False, found, f"compile it with -mcpu={core}: run `trec-dse doctor` on a fresh export")


def board_checks(folder: Path, port: str) -> tuple[Check, ...]:
    """From the port to the network that runs behind it; ends at the first fault, which hides all later ones."""
    manifest = read_manifest(folder)
    try:
        port = serial.find_port(port, manifest.target)
        hello = _banner(port, manifest.target.serial.baud)
    except PortError as problem:
        found, _, fix = str(problem).partition("; ")
        return (Check("port", False, found, fix or "plug the board in, or name its port with --port"),)
    except NoAnswerError:
        return (Check("port", True, port), _silence(folder, port, manifest))
    except DeviceError as problem:
        found, _, fix = str(problem).rpartition("; ")
        return (Check("port", True, port), Check("answer", False, found or str(problem), fix or "press reset"))
    return (Check("port", True, port), Check("answer", True, f"firmware {hello.build_id}"), _right(folder, hello))


def _banner(port: str, baud: int) -> Hello:
    with serial.open(port, baud=baud, timeout_s=_WAIT_S) as executor:
        return executor.hello


def _silence(folder: Path, port: str, manifest: Manifest) -> Check:
    """A port without banner: perhaps the firmware speaks at another speed."""
    wanted = manifest.target.serial.baud
    for baud in COMMON_BAUDS:
        if baud == wanted:
            continue
        try:
            _banner(port, baud)
        except DeviceError:
            continue
        found = f"{port} answers at {baud} baud; {manifest.target.name} says {wanted}"
        return Check("baud rate", False, found, f"set baud = {baud} in the board file, or flash {folder} anew")
    found = f"{port} is silent at {wanted} baud and at the other usual ones"
    return Check("answer", False, found, f"flash it: make -C {folder} flash; then press the board's reset button")


def _right(folder: Path, hello: Hello) -> Check:
    """The banner against the export: first the board, then the network."""
    manifest = read_manifest(folder)
    target = manifest.target
    if hello.clock_hz != target.clock_hz:
        found = f"a firmware for {hello.clock_hz} Hz answers; {target.name} runs at {target.clock_hz} Hz"
        return Check("board", False, found, "plug in that board, or search and export for the one that is there")
    if hello.build_id != manifest.build_id:
        found = f"the board runs firmware {hello.build_id}, this export is {manifest.build_id}"
        return Check("firmware", False, found, f"flash it: make -C {folder} flash")
    return Check("firmware", True, f"it is this export, {hello.build_id}")
