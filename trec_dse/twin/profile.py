"""Run a firmware's inferences on the twin, in this process, and see which call and which function took the time."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from trec_dse.device import Int8Array
from trec_dse.errors import DeviceError, ProtocolError
from trec_dse.protocol import (
    ANSWER_BIT,
    Command,
    Frame,
    Splitter,
    decode_frame,
    encode_frame,
    parse_hello,
    parse_infer,
)
from trec_dse.target import Target
from trec_dse.twin.image import load_image
from trec_dse.twin.machine import Machine
from trec_dse.twin.places import Places, Profile, Tally
from trec_dse.twin.timing import core_timing

RUN = "trec_net_run"
Rooms = dict[tuple[int, int], Tally]


class _Interview:
    """A line that asks one question after the other and notes, with every answer, what had been counted by then."""

    url = "memory"

    def __init__(self, questions: Sequence[bytes]) -> None:
        self.received: deque[int] = deque()
        self._questions = iter(questions)
        self._said = bytearray()
        self._splitter = Splitter()
        self.answers: list[tuple[bytes, Rooms]] = []
        self.machine: Machine | None = None

    def send(self, byte: int) -> None:
        self._said.append(byte)

    def wait(self) -> bool:
        """Keep the answer to the last question, ask the next."""
        assert self.machine is not None
        for data in self._splitter.feed(bytes(self._said)):
            self.answers.append((data, self.machine.counter.tallies()))
        self._said.clear()
        self.received.extend(next(self._questions, b""))
        return bool(self.received)

    def discard(self) -> None:
        self.received.clear()


def profile(elf: Path, target: Target, images: Sequence[Int8Array], n_calls: int) -> list[Profile]:
    """What each of the int8 images costs, in the order given; the first finds cold caches, as after a reset.

    `n_calls`: kernel calls of one inference. Raises `DeviceError` if the firmware faults, answers none or one of the
    images not as it should, or makes another number of calls.
    """
    asked = [Frame(Command.HELLO, 1), *(Frame(Command.INFER, i + 2, image.tobytes()) for i, image in enumerate(images))]
    line, image_file = _Interview([encode_frame(frame) for frame in asked]), load_image(elf)
    machine = Machine(image_file, target, line)
    line.machine = machine
    places = Places.of(image_file, RUN, n_calls)
    machine.counter.watch(places)
    machine.run()
    payloads = list(_payloads(asked, [data for data, _ in line.answers]))
    hello = parse_hello(payloads[0])
    names = {places.function_at(function.address): function.name for function in image_file.functions}
    permille = core_timing(target).permille
    found = []
    for payload, (_, before), (_, after) in zip(payloads[1:], line.answers, line.answers[1:], strict=False):
        steps: list[dict[str, Tally]] = [{} for _ in range(places.n_steps)]
        for place, tally in after.items():
            spent = tally - before.get(place, Tally())
            if spent.n_instructions:
                step, function = place
                steps[step][names.get(function, "(no function)")] = _scaled(spent, permille)
        # what follows the last call belongs to it
        for name, tally in steps.pop().items():
            steps[-1][name] = steps[-1].get(name, Tally()) + tally
        if not all(steps[1:]):
            n_found = sum(map(bool, steps[1:]))
            raise DeviceError(f"{elf}: {RUN} made {n_found} calls; {n_calls} were expected")
        found.append(Profile(parse_infer(payload, hello), tuple(steps[1:])))
    return found


def _payloads(asked: Sequence[Frame], answers: Sequence[bytes]) -> Iterator[bytes]:
    if len(answers) != len(asked):
        raise DeviceError(f"{len(answers)} answers to {len(asked)} requests; as many would be right")
    for request, data in zip(asked, answers, strict=True):
        frame = decode_frame(data)
        if frame.command != request.command | ANSWER_BIT or frame.sequence != request.sequence:
            raise ProtocolError(f"request {request.command} was answered with command 0x{frame.command:02x}")
        yield frame.payload


def _scaled(tally: Tally, permille: int) -> Tally:
    """Raw cycles as the core's cycle counter would show them."""
    cycles, code, data = (round(n * permille / 1000) for n in (tally.cycles, tally.code_stalls, tally.data_stalls))
    return replace(tally, cycles=cycles, code_stalls=code, data_stalls=data)
