"""Every error a user can meet; the command line turns each into one message and one exit code.

TrecDseError
├── InputError              what the user gave is not usable (exit 2)
│   ├── CandidateError      a candidate's fields contradict each other
│   ├── SearchSpaceError    a search-space file is missing, broken or samples nonsense
│   ├── TargetError         a board file is missing a key, has a wrong one or overlapping regions
│   ├── DatasetError        data are missing, truncated or not what their checksum says
│   ├── UnsupportedError    a network holds something that has no int8 kernel
│   ├── ModelError          the file of a network from elsewhere is missing, damaged or not to be trusted
│   └── StudyError          a study folder is missing, damaged or in use
├── ToolchainError          a compiler or emulator is missing, or refused our C (exit 2)
├── DeviceError             the device could not be reached or gave no usable answer (exit 2)
│   ├── PortError           the port does not exist, is busy or is not permitted
│   ├── NoAnswerError       the device stayed silent until the time limit
│   ├── ProtocolError       frames arrived, but none that answers the question
│   ├── WrongFirmwareError  the device runs another network than the one asked for
│   └── MeterError          what an instrument recorded does not tell the energy of an inference
└── NegativeAnswer          the question was fine and the answer is no (exit 1)
    ├── DoesNotFitError     the network exceeds the board
    └── NothingFitsError    no trial meets the budgets
"""


class TrecDseError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 2


class InputError(TrecDseError):
    """What the user gave is not usable."""


class CandidateError(InputError):
    """A candidate's fields contradict each other."""


class SearchSpaceError(InputError):
    """A search-space file is missing, broken or samples nonsense."""


class TargetError(InputError):
    """A board file is missing a key, has a wrong one or describes an impossible board."""


class DatasetError(InputError):
    """Data are missing, truncated or not what their checksum says."""


class UnsupportedError(InputError):
    """A network holds something that has no int8 kernel."""


class ModelError(InputError):
    """The file of a network from elsewhere is missing, damaged or not to be trusted."""


class StudyError(InputError):
    """A study folder is missing, damaged or in use by another process."""


class ToolchainError(TrecDseError):
    """A compiler or emulator is missing, or refused the generated C."""


class DeviceError(TrecDseError):
    """The device could not be reached or gave no usable answer."""


class PortError(DeviceError):
    """The port does not exist, is busy or may not be opened."""


class NoAnswerError(DeviceError):
    """The device stayed silent until the time limit."""


class ProtocolError(DeviceError):
    """Frames arrived, but none that answers the question."""


class WrongFirmwareError(DeviceError):
    """The device runs another network than the one asked for."""


class MeterError(DeviceError):
    """What an instrument recorded does not tell the energy of an inference."""


class NegativeAnswer(TrecDseError):
    """The question was fine and the answer is no."""

    exit_code = 1


class DoesNotFitError(NegativeAnswer):
    """The network exceeds the board's memory."""


class NothingFitsError(NegativeAnswer):
    """No trial meets the budgets."""
