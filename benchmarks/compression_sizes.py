"""Accuracy, Flash and SRAM against what is left of a network, for `compression.py`: a row per network, a table, a plot.

Three ways to make it smaller: channels, single weights, and both. Each at once after the dense training or step by step
during it, and each in int8 by calibration (PTQ) or by training (QAT). Every network walks through the library as a
candidate does, so Flash and SRAM are those that `estimate` gives, and what is right is what the C code says.
"""

import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import plotly.graph_objects as go
from common import Figure
from plotly.subplots import make_subplots
from torch import nn

from trec_dse import plugins
from trec_dse.candidate import Candidate, KernelConfig, PruningRecipe, PruningSchedule, QuantizationRecipe, Recipe
from trec_dse.course import Course
from trec_dse.datasets import Dataset
from trec_dse.errors import TargetError
from trec_dse.evaluate import cost_of, host_network, int8_images, load_dataset
from trec_dse.graph import QuantizedGraph
from trec_dse.networks import build_model
from trec_dse.plots import ACCENT, INK, KIND_COLORS, MUTED, WARN
from trec_dse.target import Target, load_target

Training = Literal["PTQ", "QAT"]

BOARD = "stm32f469i-disco"
QAT_EPOCHS = 3
N_VALIDATION = 500  # images by which a training reports its progress; nothing is chosen by them
EDGE_SHARE = 0.75  # the most of its single weights that the first and the last layer lose: they hold few
SCHEDULES: dict[PruningSchedule, str] = {"one_shot": "one-shot", "agp": "AGP"}
TRAININGS: tuple[Training, ...] = ("PTQ", "QAT")
SHARES = (  # of the channels, and of the single weights of what is left
    *((share, 0.0) for share in (0.25, 0.5, 0.75, 0.9, 0.95)),
    *((0.0, share) for share in (0.75, 0.9, 0.95, 0.98, 0.99, 0.995)),
    *((share, 0.75) for share in (0.75, 0.9, 0.95)),
)
PANELS = ("relative accuracy, %", "Flash, KiB", "SRAM, KiB")
LEAST_SHOWN = 28  # per cent of the whole network's accuracy
DASHES: dict[PruningSchedule, str] = {"one_shot": "dot", "agp": "solid"}
SYMBOLS: dict[Training, str] = {"PTQ": "circle-open", "QAT": "circle"}
COLORS = {"channels": ACCENT, "single weights": WARN, "both": KIND_COLORS["output"]}


@dataclass(frozen=True)
class Named:
    """A network that is made smaller: `candidate` as a whole, and its data."""

    name: str
    candidate: Candidate
    dataset: Dataset


@dataclass(frozen=True)
class Point:
    """What is taken away: a share of the channels, then of the single weights, by a schedule; both 0: nothing."""

    channels: float = 0.0
    weights: float = 0.0
    schedule: PruningSchedule = "one_shot"

    @property
    def form(self) -> str:
        """The name of the line that it lies on."""
        if self.channels and self.weights:
            return "both"
        return "channels" if self.channels else "single weights" if self.weights else "whole"


@dataclass(frozen=True)
class Row:
    """One int8 network. `n_weights`: those that are not zero; `n_right` of `n_images` test images by the C code."""

    network: str
    channels: float
    weights: float
    schedule: PruningSchedule
    training: Training
    n_weights: int
    weight_bytes: int
    flash_bytes: int
    sram_bytes: int
    n_right: int
    n_images: int

    @property
    def point(self) -> Point:
        """What was taken away."""
        return Point(self.channels, self.weights, self.schedule)


POINTS = (Point(), *(Point(*shares, schedule) for shares in SHARES for schedule in SCHEDULES))


def mnist(data_dir: Path | None) -> Named:
    """LeNet-5."""
    recipe = Recipe(epochs=6, fine_tune_epochs=3, trec_epochs=0, n_train=10_000, n_validation=N_VALIDATION)
    candidate = Candidate("mnist", "lenet5", recipe=recipe)
    return Named("MNIST, LeNet-5", candidate, load_dataset(candidate, data_dir))


def cifar10(data_dir: Path | None) -> Named:
    """A quarter of CifarNet's width."""
    recipe = Recipe(epochs=8, fine_tune_epochs=3, trec_epochs=0, n_train=5_000, n_validation=N_VALIDATION)
    candidate = Candidate("cifar10", "cifarnet", {"width": 0.25, "dropout": 0.0}, recipe=recipe)
    return Named("CIFAR-10, CifarNet/4", candidate, load_dataset(candidate, data_dir))


SUBJECTS: dict[str, Callable[[Path | None], Named]] = {"mnist_sizes": mnist, "cifar10_sizes": cifar10}


def smaller(subject: Named, point: Point, training: Training) -> Candidate:
    """The candidate of one point."""
    whole = subject.candidate
    method = PruningRecipe(
        schedule=point.schedule,
        start=whole.recipe.epochs // 3 if point.schedule == "agp" else 0,
        unit="weights" if point.weights else "channels",
    )
    quantization = QuantizationRecipe("mse", qat_epochs=QAT_EPOCHS if training == "QAT" else 0)
    return replace(
        whole,
        pruning={"*": point.channels} if point.channels else {},
        kernels=zeros(subject, point.weights) if point.weights else {},
        recipe=replace(whole.recipe, pruning=method, quantization=quantization),
    )


def zeros(subject: Named, share: float) -> dict[str, KernelConfig]:
    """Every layer less that share of its single weights, the first and the last less `EDGE_SHARE` at most."""
    model = build_model(subject.candidate, subject.dataset.input_shape, subject.dataset.n_classes)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    shares = {name: min(share, EDGE_SHARE) if name in (names[0], names[-1]) else share for name in names}
    return {name: KernelConfig("pruned", share=each) for name, each in shares.items()}


def n_right(graph: QuantizedGraph, dataset: Dataset) -> int:
    """Images of the test split that the network's own C classifies correctly."""
    with host_network(graph) as network:
        outputs = network.run(int8_images(graph, dataset, dataset.test)).outputs
    return int((outputs.argmax(axis=1) == dataset.test.labels).sum())


def measured(subject: Named, point: Point, training: Training, board: Target, folder: Path) -> Row:
    """Train and count; `folder` keeps the parents that points share."""
    dataset = subject.dataset
    candidate = smaller(subject, point, training)
    course = Course(
        candidate, dataset, candidate.recipe.epochs, lambda _: None, folder / "parents", folder / "training"
    )
    graph = course.run({}).graph
    course.clear()
    cost = cost_of(graph, board)
    left = sum(int((each["weights"] != 0).sum()) for each in graph.weights.values() if "weights" in each)
    memory = (cost.weight_bytes, cost.flash_bytes, cost.sram_bytes)
    right, n = n_right(graph, dataset), len(dataset.test)
    return Row(subject.name, point.channels, point.weights, point.schedule, training, left, *memory, right, n)


def walk(subject: Named, out: Path | None, points: Sequence[Point] = POINTS) -> list[Row]:
    """All rows of one network; those in `out` are taken from there, the others are added to it as they come."""
    rows = [row for row in rows_of(out) if row.network == subject.name]
    known = {(row.point, row.training) for row in rows}
    board = load_target(plugins.data_file("targets", BOARD, ".toml", TargetError))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if out is None else out.parent / f"{out.stem}.parents"
        for point in points:
            for training in TRAININGS:
                if (point, training) in known:
                    continue
                start = time.monotonic()
                row = measured(subject, point, training, board, folder)
                rows.append(row)
                print(f"{time.monotonic() - start:.0f} s: {row}", file=sys.stderr, flush=True)
                if out is not None:
                    with out.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(asdict(row)) + "\n")
    return rows


def rows_of(path: Path | None) -> list[Row]:
    """The rows of a file of JSON lines; none where there is no file."""
    if path is None or not path.is_file():
        return []
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def whole_of(rows: Sequence[Row]) -> Row:
    """The whole network in int8 by calibration, which all of its other rows are relative to."""
    return next(row for row in rows if row.point == Point() and row.training == "PTQ")


def relative(row: Row, whole: Row) -> float:
    """Accuracy in per cent of the whole network's."""
    return 100 * row.n_right * whole.n_images / (row.n_images * whole.n_right)


def figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """Accuracy and size of each row of one network."""
    whole = whole_of(rows)
    for row in rows:
        taken = f"{row.channels:.0%} of the channels, {row.weights:.1%} of the weights gone"
        name = f"{row.network}, {taken}, {SCHEDULES[row.schedule]}, {row.training}"
        yield Figure(f"{name}: weights left", 100 * row.n_weights / whole.n_weights, "%")
        yield Figure(f"{name}: their bytes", left(row, whole), "%")
        yield Figure(f"{name}: Flash", row.flash_bytes / 1024, "KiB")
        yield Figure(f"{name}: SRAM", row.sram_bytes / 1024, "KiB")
        yield Figure(f"{name}: relative accuracy", relative(row, whole), "%")


def table(rows: Sequence[Row]) -> str:
    """One network in Markdown: a line per share, its sizes those of one-shot PTQ."""
    whole = whole_of(rows)
    found = {(row.point, row.training): row for row in rows}
    kinds = [(schedule, training) for schedule in SCHEDULES for training in TRAININGS]
    titles = ["channels", "weights", "left", "bytes", "Flash", "SRAM"]
    titles += [f"{SCHEDULES[schedule]}, {training}" for schedule, training in kinds]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for shares in ((0.0, 0.0), *SHARES):
        row = found.get((Point(*shares), "PTQ"))
        if row is None:
            continue
        cells = [f"{100 * share:g} %" if share else "" for share in shares]
        cells += [
            f"{100 * row.n_weights / whole.n_weights:.1f} %",
            f"{left(row, whole):.1f} %",
        ]
        cells += [f"{row.flash_bytes / 1024:.1f} KiB", f"{row.sram_bytes / 1024:.1f} KiB"]
        each = [found.get((Point(*shares, schedule), training)) for schedule, training in kinds]
        cells += ["" if one is None else f"{relative(one, whole):.1f}" for one in each]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """A line of panels per network: as PNG by a Chromium, or as the page itself if `path` ends with .html."""
    figure = picture(rows)
    page = figure.to_html(config={"displayModeBar": False})
    if path.suffix == ".html":
        path.write_text(page, encoding="utf-8")
        return
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit(f"{path}: a PNG is drawn by chromium, which is not on the path; FILE.html needs none")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "plot.html"
        source.write_text(page.replace("<body>", "<body style='margin:0'>"), encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=10000"]
        options.append(f"--window-size={figure.layout.width},{figure.layout.height}")
        options += [f"--user-data-dir={folder}/profile", f"--screenshot={path.resolve()}"]
        subprocess.run([browser, *options, source.as_uri()], check=True, capture_output=True)


def picture(rows: Sequence[Row]) -> go.Figure:
    """Relative accuracy, Flash and SRAM against the bytes that are left, a line of panels per network."""
    names = list(dict.fromkeys(row.network for row in rows))
    titles = [f"{name}: {title}" for name in names for title in PANELS]
    figure = make_subplots(
        len(names),
        len(PANELS),
        subplot_titles=titles,
        column_widths=[0.46, 0.27, 0.27],
        horizontal_spacing=0.05,
        vertical_spacing=0.12,
    )
    for line, name in enumerate(names, start=1):
        chosen = [row for row in rows if row.network == name]
        whole = whole_of(chosen)
        for trace in traces(chosen):
            trace.showlegend = line == 1
            figure.add_trace(trace, line, 1)
        for column, size in ((2, "flash_bytes"), (3, "sram_bytes")):
            for form, color in COLORS.items():
                # schedule and training change no shape, and hardly what is zero
                sized = ordered([row for row in chosen if is_plain(row) and is_on(row.point, form)], whole)
                figure.add_scatter(
                    x=[left(row, whole) for row in sized],
                    y=[getattr(row, size) / 1024 for row in sized],
                    mode="lines+markers",
                    line={"color": color, "width": 2},
                    marker={"size": 6},
                    showlegend=False,
                    row=line,
                    col=column,
                )
    return styled(figure, len(names))


def traces(rows: Sequence[Row]) -> Iterator[go.Scatter]:
    """Relative accuracy of one network, a line per form, schedule and training, the largest network first."""
    whole = whole_of(rows)
    for form, color in COLORS.items():
        for schedule, dash in DASHES.items():
            for training, symbol in SYMBOLS.items():
                chosen = [
                    row
                    for row in rows
                    if row.training == training
                    and is_on(row.point, form)
                    and (row.point == Point() or row.schedule == schedule)
                ]
                found = ordered(chosen, whole)
                yield go.Scatter(
                    x=[left(row, whole) for row in found],
                    y=[relative(row, whole) for row in found],
                    mode="lines+markers",
                    line={"color": color, "dash": dash, "width": 1.5},
                    marker={"symbol": symbol, "size": 7},
                    name=f"{form}, {SCHEDULES[schedule]}, {training}",
                )


def is_on(point: Point, form: str) -> bool:
    """Whether that form's line goes through it; none of "both" is between the whole network and a few hundredths."""
    return point.form == form or (point == Point() and form != "both")


def is_plain(row: Row) -> bool:
    """Whether it is the one of its share whose size is shown."""
    return row.schedule == "one_shot" and row.training == "PTQ"


def left(row: Row, whole: Row) -> float:
    """Bytes of weights and their tables in Flash, in per cent of the whole network's."""
    return 100 * row.weight_bytes / whole.weight_bytes


def ordered(rows: Sequence[Row], whole: Row) -> list[Row]:
    """From the largest network to the smallest."""
    return sorted(rows, key=lambda row: -left(row, whole))


def styled(figure: go.Figure, n_networks: int) -> go.Figure:
    """`figure` with axes, legend and size."""
    grid = {"gridcolor": "#e8ecef", "linecolor": MUTED, "ticks": "outside", "tickcolor": MUTED, "zeroline": False}
    ticks = [2, 3, 5, 10, 20, 30, 50, 100]
    x_axis = {"type": "log", "range": [math.log10(120), math.log10(1.7)], "tickvals": ticks, **grid}
    figure.update_xaxes(**x_axis)
    figure.update_xaxes(title="weight bytes left, %", row=n_networks)
    figure.update_yaxes(**grid)
    figure.update_yaxes(range=[LEAST_SHOWN, 103], col=1)
    figure.update_yaxes(type="log", tickvals=[2, 5, 10, 20, 50, 100, 200, 500], col=2)
    figure.update_yaxes(rangemode="tozero", col=3)
    figure.update_layout(
        font={"color": INK, "size": 13},
        paper_bgcolor="white",
        plot_bgcolor="white",
        width=1280,
        height=380 * n_networks + 110,
        margin={"l": 50, "r": 20, "t": 40, "b": 130},
        legend={"orientation": "h", "x": 0, "y": -0.11, "yanchor": "top", "entrywidth": 250},
    )
    return figure
