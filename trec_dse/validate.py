"""Run images on a device and compare every byte of its answers with the integers that are expected."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trec_dse.device import Executor, Inference, Int8Array
from trec_dse.errors import InputError
from trec_dse.results import percentile

N_KEPT_MISMATCHES = 10


@dataclass(frozen=True)
class Mismatch:
    """An image whose answer is not what the host computes."""

    index: int
    expected: tuple[int, ...]
    found: tuple[int, ...]


@dataclass(frozen=True)
class ValidationRun:
    """What a device answered to a set of images.

    Attributes:
        n_mismatches: images with any wrong byte; mismatches: the first few of them.
        cycles: mean per image; cycles_max: the slowest image; cycles_p50, cycles_p99: what half, and 99 in 100, of the
            images take at most. stack_bytes: the highest mark.
        n_clusters: per TREC layer, mean over the images of N_c summed over the slices.
        accuracy: share of the images whose largest output (the first on ties) is at their label.
    """

    executor: str
    n_images: int
    n_mismatches: int
    mismatches: tuple[Mismatch, ...]
    cycles: int
    cycles_max: int
    cycles_p50: int
    cycles_p99: int
    stack_bytes: int
    n_clusters: tuple[float, ...]
    accuracy: float

    @property
    def is_bit_exact(self) -> bool:
        """Whether every answer was the expected one."""
        return self.n_mismatches == 0


def validate(
    executor: Executor,
    images: Int8Array,
    labels: npt.NDArray[np.int64],
    expected: Int8Array,
    *,
    on_image: Callable[[int], None] | None = None,
) -> ValidationRun:
    """Infer all images. Shapes: images (n, h, w, c), labels (n,), expected (n, n_outputs).

    `on_image` is told how many images are done. Raises `InputError` if the lengths differ or there is no image, and
    whatever the executor raises: a device that cannot be trusted to answer has no result.
    """
    if not len(images) == len(labels) == len(expected) > 0:
        raise InputError(
            f"{len(images)} images, {len(labels)} labels and {len(expected)} expected outputs;"
            " as many of each, at least one, would be right"
        )
    answers = []
    for number, image in enumerate(images, start=1):
        answers.append(executor.infer(image))
        if on_image is not None:
            on_image(number)
    return _summarize(executor.name, answers, labels, expected)


def _summarize(
    name: str, answers: list[Inference], labels: npt.NDArray[np.int64], expected: Int8Array
) -> ValidationRun:
    wrong = [
        Mismatch(index, _integers(right), _integers(answer.output))
        for index, (answer, right) in enumerate(zip(answers, expected, strict=True))
        if not np.array_equal(answer.output.ravel(), right.ravel())
    ]
    n_right = sum(int(np.argmax(answer.output)) == label for answer, label in zip(answers, labels, strict=True))
    cycles = [answer.cycles for answer in answers]
    counts = zip(*(answer.n_clusters for answer in answers), strict=True)
    return ValidationRun(
        executor=name,
        n_images=len(answers),
        n_mismatches=len(wrong),
        mismatches=tuple(wrong[:N_KEPT_MISMATCHES]),
        cycles=round(sum(cycles) / len(cycles)),
        cycles_max=max(cycles),
        cycles_p50=percentile(cycles, 50),
        cycles_p99=percentile(cycles, 99),
        stack_bytes=max(answer.stack_bytes for answer in answers),
        n_clusters=tuple(sum(layer) / len(answers) for layer in counts),
        accuracy=n_right / len(answers),
    )


def _integers(values: Int8Array) -> tuple[int, ...]:
    return tuple(int(value) for value in values.ravel())
