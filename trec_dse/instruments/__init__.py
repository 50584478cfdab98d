"""Everything that can measure what a board draws, one file each.

A file has `open(argument, volts)`, which returns an `Instrument`, and says in `USAGE` what `--instrument` takes.
"""

from pathlib import Path

from trec_dse import plugins
from trec_dse.errors import InputError
from trec_dse.metering import Instrument

RECORDED = "recorded"
_SUFFIXES = (".csv", ".npz")


def open_instrument(wanted: str, volts: float | None) -> Instrument:
    """The instrument that `wanted` names: "ppk2", "ppk2:/dev/ttyACM1", or the path of what one recorded.

    `volts`: the supply's voltage, for instruments that do not measure it. Raises `InputError` for an unknown name and
    for a voltage that is missing or too much, `ToolchainError` where its library is not installed.
    """
    name, _, argument = wanted.partition(":")
    if Path(wanted).suffix in _SUFFIXES:
        name, argument = RECORDED, wanted
    instrument: Instrument = plugins.load("instruments", name, InputError).open(argument, volts)
    return instrument


def usages() -> list[str]:
    """What `--instrument` takes, of every file."""
    return [str(plugins.load("instruments", name).USAGE) for name in plugins.names("instruments")]
