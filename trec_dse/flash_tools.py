"""How a firmware gets onto each maker's chips: OpenOCD's scripts, and the way that needs no probe or another tool."""

from dataclasses import dataclass

from trec_dse.target import Target


@dataclass(frozen=True)
class FlashTools:
    """Ways to write to a board.

    Attributes:
        openocd: scripts for the probe that the board has or is used with, and for its chip. pyocd: its name there.
        rule: of the other way in the Makefile; hint: what it does; recipe: its commands, which may use `$(BIN)`.
        drive_files: what lies on the drive that takes an image; image: the image's name beside firmware.elf.
    """

    openocd: tuple[str, str]
    pyocd: str
    rule: str
    hint: str
    recipe: str
    drive_files: tuple[str, ...] = ()
    image: str = "firmware.bin"


def flash_tools(target: Target) -> FlashTools:
    """The ways for a target's chip."""
    if target.platform == "nrf52":
        return FlashTools(
            openocd=("interface/cmsis-dap.cfg", "target/nrf52.cfg"),
            pyocd=target.mcu.lower(),
            rule="flash-bossac",
            hint="through the board's bootloader: press its button twice, PORT=ttyACM0",
            recipe="bossac -d --port=$(PORT) -U -i -e -w $(BIN) -R",
        )
    if target.platform == "rp2040":
        return FlashTools(
            openocd=("interface/cmsis-dap.cfg", "target/rp2040.cfg"),
            pyocd="rp2040",
            rule="flash-drive",
            hint="to the drive that shows when it is plugged in with BOOTSEL held, DRIVE=/media/me/RPI-RP2",
            recipe="cp build/firmware.uf2 $(DRIVE)/",
            drive_files=("INFO_UF2.TXT",),
            image="firmware.uf2",
        )
    return FlashTools(
        openocd=("interface/stlink.cfg", f"target/{target.platform}x.cfg"),
        pyocd=target.mcu.lower()[:-1] + "x",  # the maker's order codes with an x for the temperature range
        rule="flash-st",
        hint="through st-flash",
        recipe=f"st-flash --reset write $(BIN) 0x{target.region(target.flash_region).origin:08x}",
        drive_files=("MBED.HTM", "DETAILS.TXT"),
    )
