"""Run a network on a board while an instrument measures what each inference takes."""

from types import TracebackType
from typing import Self

from trec_dse.device import Executor, Inference, Int8Array
from trec_dse.metering import Instrument, Spent, spent_in, summary
from trec_dse.results import MeasuredEnergy


class MeteringExecutor:
    """Asks another executor, and an instrument meanwhile. A context manager, which closes the other one.

    `clock_hz`: the board's, by which its count of cycles says how long the marker has to be high.
    """

    def __init__(self, executor: Executor, instrument: Instrument, clock_hz: int) -> None:
        self.name = executor.name
        self._executor, self._instrument, self._clock_hz = executor, instrument, clock_hz
        self._spent: list[Spent] = []

    def infer(self, image: Int8Array) -> Inference:
        """The device's answer. Raises `MeterError` if what was recorded does not tell its energy."""
        self._instrument.start()
        answer = self._executor.infer(image)
        trace = self._instrument.stop()
        self._spent.append(spent_in(trace, answer.cycles / self._clock_hz))
        return answer

    def energy(self) -> MeasuredEnergy:
        """Of all inferences. Raises `MeterError` if there were none, or more were recorded."""
        self._instrument.finish()
        return summary(self._instrument.name, self._spent)

    def __enter__(self) -> Self:
        self._executor.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.__exit__(kind, error, trace)
