"""A firmware that would be silent or wrong on the board is refused by the twin, with the reason."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from twin_programs import M4, M7, execute, unconnected

from trec_dse.errors import DeviceError
from trec_dse.target import Target
from trec_dse.twin.checks import check_serial_port
from trec_dse.twin.registers import Registers
from trec_dse.twin.stm32 import make_peripherals

# 8 MHz / 4 * 180 / 2 = 180 MHz from the crystal, APB1 / 4, APB2 / 2
PLL_180 = 1 << 22 | 180 << 6 | 4
DIVIDERS = 5 << 10 | 4 << 13 | 2
BOTH_OVERDRIVE_BITS = 3 << 16
PB10_PB11 = 2 << 20 | 2 << 22


def devices(target: Target = M4) -> Mapping[str, Registers]:
    """The peripherals as correct start-up code of the Discovery board leaves them."""
    found = {device.name: device for device in make_peripherals(target, unconnected())}
    found["RCC"].words.update({0x04: PLL_180, 0x08: DIVIDERS})
    found["PWR"].words[0x00] = BOTH_OVERDRIVE_BITS
    found["FLASH"].words[0x00] = 5
    found["GPIOB"].words.update({0x00: PB10_PB11, 0x24: 7 << 8 | 7 << 12})
    found["USART3"].words[0x08] = 49  # 45 MHz / 49 = 918367 baud, 0.35 % below 921600
    return found


def test_a_correct_start_is_accepted() -> None:
    check_serial_port(M4, devices())


WRONG = {
    "core clock": ("RCC", 0x04, 1 << 22 | 168 << 6 | 4, "core at 168000000 Hz; .* says 180000000 Hz"),
    "PLL input": ("RCC", 0x04, 1 << 22 | 45 << 6 | 1, "the PLL's input at 8000000 Hz; 950000 to 2100000 Hz"),
    "APB1": ("RCC", 0x08, 4 << 10 | 4 << 13 | 2, "APB1 at 90000000 Hz; 0 to 45000000 Hz"),
    "APB2": ("RCC", 0x08, 5 << 10 | 2, "APB2 at 180000000 Hz; 0 to 90000000 Hz"),
    "oscillator": ("RCC", 0x04, 180 << 6 | 8, "runs from the chip's own oscillator; .* has a crystal of 8000000 Hz"),
    "over-drive": ("PWR", 0x00, 1 << 16, "180000000 Hz without over-drive; set ODEN and ODSWEN"),
    "wait states": ("FLASH", 0x00, 4, "sets 4 Flash wait states; 180000000 Hz need 5"),
    "baud rate": ("USART3", 0x08, 391, "sets USART3 to 115090 baud; .* says 921600"),
    "pin mode": ("GPIOB", 0x00, 2 << 20 | 1 << 22, "does not lead USART3 to PB11; it must have"),
    "pin function": ("GPIOB", 0x24, 7 << 8 | 8 << 12, "must have alternate function 7"),
}


@pytest.mark.parametrize("what", WRONG)
def test_each_wrong_setting_has_its_own_message(what: str) -> None:
    name, offset, value, message = WRONG[what]
    found = devices()
    found[name].words[offset] = value
    with pytest.raises(DeviceError, match=message):
        check_serial_port(M4, found)


def test_eightfold_oversampling_counts_in_eighths() -> None:
    # mantissa 6, fraction 1 of 8: 45 MHz / (8 * 6 + 1)
    found = devices()
    found["USART3"].words.update({0x08: 6 << 4 | 1, 0x0C: 1 << 15})
    check_serial_port(M4, found)


def test_an_f7_port_may_run_from_another_clock() -> None:
    serial = replace(M7.serial, baud=115_200, tx="PB10", rx="PB11")
    slow = replace(M7, clock_hz=180_000_000, serial=serial, flash=replace(M7.flash, wait_states=5))
    found = devices(slow)
    found["RCC"].words[0x90] = 2 << 4  # USART3 from the 16 MHz oscillator
    found["USART3"].words[0x0C] = 139  # 16 MHz / 139 = 115108 baud
    check_serial_port(slow, found)


@pytest.mark.parametrize("base", ["0x40004800", "0x40020400", "0x40007000", "0x40013800"])
def test_a_peripheral_without_clock_is_named_with_its_enable_bit(base: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"while the clock of \w+ is off; bit \d+ of RCC \+ 0x[34]. comes first"):
        execute(f"ldr r0, ={base}\n ldr r1, [r0]", M4, tmp_path)


def test_a_port_without_model_is_named() -> None:
    other = replace(M4, serial=replace(M4.serial, usart="UART9"))
    with pytest.raises(DeviceError, match="no model of UART9; choose from USART1"):
        make_peripherals(other, unconnected())
