"""Convolutions inside their own input: rows, one transposition, herringbone; each run on a buffer of the very size."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from trec_dse.graph import Window
from trec_dse.ops._in_place import ORDERS, Order, herringbone, raster_distance, slack

SQUARE = Window((3, 3))
GONE = -(10**9)


@dataclass
class Buffer:
    """A convolution with summed windows on one flat array: the input at its end, the outputs from its front."""

    window: Window
    image: np.ndarray
    out_channels: int
    room: int
    cells: np.ndarray = field(init=False)
    written: list[tuple[int, int]] = field(default_factory=list)
    outlived: list[int] = field(default_factory=list)  # each window's sum after its outputs were written

    def __post_init__(self) -> None:
        self.cells = np.full(self.image.size + self.room, GONE)
        self.cells[self.room :] = self.image.reshape(-1)
        self.left = self.image.copy()  # only its shape and place are used: what is read are the cells
        self.corner = (0, 0)

    def peel(self, letters: str) -> None:
        """Write a row for every "r" and a column for every "c"."""
        done = [0, 0]
        for letter in letters:
            axis = "rc".index(letter)
            self._move(axis, (self._first(0, done[0]), self._first(1, done[1])))
            n_along = self.window.positions(self.image.shape)[1 - axis]
            for x in range(done[1 - axis], n_along):
                self._write((done[0], x) if axis == 0 else (x, done[1]))
            done[axis] += 1

    def _first(self, axis: int, i: int) -> int:
        return max(0, i * self.window.stride[axis] - self.window.padding[axis])

    def _move(self, axis: int, corner: tuple[int, int]) -> None:
        """Keep the rectangle from `corner` on, that axis outside, at the end of the buffer."""
        kept = self._pixels()[corner[0] - self.corner[0] :, corner[1] - self.corner[1] :]
        self.corner, self.axis = corner, axis
        self.left = kept.copy()
        flat = (kept if axis == 0 else kept.transpose(1, 0, 2)).reshape(-1)
        self.cells[self.cells.size - flat.size :] = flat

    def _pixels(self) -> np.ndarray:
        if not hasattr(self, "axis"):
            return self.image
        height, width, channels = self.left.shape
        flat = self.cells[self.cells.size - self.left.size :]
        if self.axis == 0:
            return flat.reshape(height, width, channels)
        return flat.reshape(width, height, channels).transpose(1, 0, 2)

    def _write(self, position: tuple[int, int]) -> None:
        """All channels of a position, each from the window as it then is; it must outlive the last."""
        for channel in range(self.out_channels):
            value = self._sum(position) + channel
            self.cells[len(self.written) * self.out_channels + channel] = value
        self.outlived.append(self._sum(position))
        self.written.append(position)

    def _sum(self, position: tuple[int, int]) -> int:
        pixels, total = self._pixels(), 0
        for dy in range(self.window.kernel[0]):
            for dx in range(self.window.kernel[1]):
                y = position[0] * self.window.stride[0] - self.window.padding[0] + dy
                x = position[1] * self.window.stride[1] - self.window.padding[1] + dx
                if 0 <= y < self.image.shape[0] and 0 <= x < self.image.shape[1]:
                    total += int(pixels[y - self.corner[0], x - self.corner[1]].sum()) * (7 * dy + 3 * dx + 1)
        return total % 65521  # what a spoiled window gives must not grow

    def outputs(self) -> dict[tuple[int, int], list[int]]:
        """What stands in the buffer for every position."""
        flat = self.cells[: len(self.written) * self.out_channels].reshape(-1, self.out_channels)
        return {position: row.tolist() for position, row in zip(self.written, flat, strict=True)}


def letters_of(order: Order, window: Window, shape: tuple[int, int, int], channels: int) -> str:
    rows, columns = window.positions(shape)
    if order == "row":
        return "r" * rows
    if order == "herringbone":
        return herringbone(window, shape, channels)
    wanted = slack(window, shape, channels, "transpose")
    found = [f"{'r' * n}{'c' * columns if n < rows else ''}" for n in range(rows + 1)]
    return next(letters for letters in found if is_right(window, shape, channels, letters, wanted))


def is_right(window: Window, shape: tuple[int, int, int], channels: int, letters: str, room: int) -> bool:
    """Whether a buffer of `room` elements beyond the input gives what one of plenty gives."""
    image = np.random.default_rng(0).integers(1, 50, shape)
    plenty = Buffer(window, image, channels, room + 10_000)
    tight = Buffer(window, image, channels, room)
    plenty.peel(letters)
    tight.peel(letters)
    return plenty.outputs() == tight.outputs() and plenty.outlived == tight.outlived


def random_case(seed: int) -> tuple[Window, tuple[int, int, int], int]:
    random = np.random.default_rng(seed)
    kernel = (int(random.integers(1, 4)), int(random.integers(1, 4)))
    stride = (int(random.integers(1, 3)), int(random.integers(1, 3)))
    window = Window(
        kernel, stride, (kernel[0] // 2 * int(random.integers(2)), kernel[1] // 2 * int(random.integers(2)))
    )
    shape = (int(random.integers(3, 7)), int(random.integers(3, 7)), int(random.integers(1, 4)))
    return window, shape, int(random.integers(1, 6))


@pytest.mark.parametrize(
    ("outputs", "inputs", "channels", "row", "herring"),
    [(12, 1, 5, 555, 533), (10, 5, 8, 215, 149), (8, 8, 11, 88, 46)],
)
def test_the_three_convolutions_of_the_published_network(
    outputs: int, inputs: int, channels: int, row: int, herring: int
) -> None:
    shape = (outputs + 2, outputs + 2, inputs)
    assert slack(SQUARE, shape, channels, "row") == row
    assert slack(SQUARE, shape, channels, "herringbone") == herring


def test_one_row_by_hand() -> None:
    # 1x3 image, kernel 1x2, one channel to three: positions 0 and 1. Position 0 writes 3 while pixel 0 is needed: the
    # input must start at 3. Position 1 ends at 6 while pixel 1 is needed: the input must start at 5
    assert slack(Window((1, 2)), (1, 3, 1), 3, "row") == 5
    # a copied window frees its first pixel before the outputs are written: 3 <= start + 1, then everything is dead,
    # but six outputs need three more than the input
    assert slack(Window((1, 2)), (1, 3, 1), 3, "row", copied=True) == 3


def test_an_output_pixel_no_larger_than_what_it_frees_needs_nothing_if_copied() -> None:
    assert slack(Window((2, 2)), (8, 8, 3), 3, "row", copied=True) == 0
    assert slack(Window((2, 2), (2, 2)), (8, 8, 3), 3, "row", copied=True) == 0  # pooling
    # at stride 2 a position frees four pixels, but two of them lie a row further on: after the third of four positions
    # 36 are written and 6 pixels of 3 channels are dead in front
    assert slack(Window((2, 2), (2, 2)), (8, 8, 3), 12, "row", copied=True) == 36 - 18


def test_windows_that_are_copied_in_fours_free_what_they_read_together() -> None:
    # 5x5 image of two channels, kernel 2x2, three channels: rows of four positions. Singly, the last row but one
    # position ends at 45, while 15 pixels of the rows above and 3 of its own are dead: 45 - 2 * 18
    assert slack(Window((2, 2)), (5, 5, 2), 3, "row", copied=1) == 9
    # in fours a row is copied as a whole: the third one ends at 36, while three rows of five pixels are dead
    assert slack(Window((2, 2)), (5, 5, 2), 3, "row", copied=4) == 36 - 2 * 15


def test_rows_are_the_walk_of_one_position_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trec_dse.ops._in_place.BLOCK", 1)
    for seed in range(60):
        window, shape, channels = random_case(seed)
        walk = raster_distance.__wrapped__(window, shape, channels)
        assert slack(window, shape, channels, "row") == max(0, walk)


def test_no_order_is_worse_than_one_with_fewer_choices() -> None:
    for seed in range(60):
        window, shape, channels = random_case(seed)
        row, transpose, herring = (slack(window, shape, channels, order) for order in ORDERS)
        assert herring <= transpose <= row


@pytest.mark.parametrize("order", ORDERS)
def test_a_buffer_of_that_slack_is_enough(order: Order) -> None:
    for seed in range(25):
        window, shape, channels = random_case(seed)
        letters = letters_of(order, window, shape, channels)
        assert is_right(window, shape, channels, letters, slack(window, shape, channels, order))


@pytest.mark.parametrize("order", ["row", "herringbone"])
def test_one_element_fewer_is_not(order: Order) -> None:
    n_tight = 0
    for seed in range(25):
        window, shape, channels = random_case(seed)
        room = slack(window, shape, channels, order)
        outputs = int(np.prod(window.positions(shape))) * channels
        if room > max(0, outputs - int(np.prod(shape))):  # else the outputs alone fill the buffer
            n_tight += 1
            assert not is_right(window, shape, channels, letters_of(order, window, shape, channels), room - 1)
    assert n_tight >= 10


def test_herringbone_peels_the_longer_side_first() -> None:
    assert herringbone(SQUARE, (9, 4, 1), 2).startswith("rrrrr")
    assert herringbone(SQUARE, (4, 9, 1), 2).startswith("ccccc")
