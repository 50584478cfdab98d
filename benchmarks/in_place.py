"""What growing outputs into dying inputs saves: arena of random candidates with and without, all spaces.

The walk of `ops/_in_place.py` is also held against the published closed form of row order (valid convolution, stride
1, one position at a time): h (w f_b - w_a f_a) + k f_a bytes beyond the input, an upper bound. Our kernels keep the
windows of a block of four positions until they have written it, which costs up to four pixels on either side.

Where it is worth it, the planner also takes the kernel that goes by rows and columns (`KernelConfig("in_place")`): what
that saves beyond rows is shown for the candidates without TREC.

Then the orders that peel rows and columns, for the shapes of published convolutions and random ones: what each needs
beyond the input, by the walk and by the published closed forms.
"""

from dataclasses import replace

import numpy as np
from common import Figure, random_candidates, show

from trec_dse import datasets, plugins
from trec_dse.candidate import KernelConfig
from trec_dse.evaluate import untrained_graph
from trec_dse.graph import Window
from trec_dse.memory import plan_memory
from trec_dse.ops._in_place import BLOCK, ORDERS, raster_distance, slack
from trec_dse.search_space import load_search_space

N_CANDIDATES, N_SHAPES = 12, 60
# output height and width, channels in and out of the 3x3 convolutions of the published 2 KB network
PUBLISHED = ((12, 12, 1, 5), (10, 10, 5, 8), (8, 8, 8, 11))


def closed_form(shape: tuple[int, int, int], kernel: int, channels: int) -> int:
    """Slack of row order by the published formula; 0 where an output pixel is no larger than what it frees."""
    height, width = shape[0] - kernel + 1, shape[1] - kernel + 1
    return max(0, height * (width * channels - shape[1] * shape[2]) + kernel * shape[2])


def row_form(outputs: tuple[int, int], kernel: int, f_a: int, f_b: int) -> int:
    """Published: row by row, h, w output sizes and f_a < f_b channels."""
    h, w = outputs
    return max(0, h * (w * f_b - (w + kernel - 1) * f_a) + kernel * f_a)


def transpose_form(outputs: tuple[int, int], kernel: int, f_a: int, f_b: int) -> int:
    """Published: x0 or x0 + 1 columns, one transposition, then rows."""
    h, w = outputs
    grown, kept = f_b - f_a, (kernel - 1) * f_a
    x = min(h, kept // grown)
    first = (h - x) * (w * grown - kept) + kernel * f_a
    second = (h - x - 1) * (w * grown - kept) + w * ((x + 1) * grown - kept) + kernel * f_a
    return max(0, min(first, second))


def herringbone_form(outputs: tuple[int, int], kernel: int, f_a: int, f_b: int) -> int:
    """Published: what each strip of the longer side writes beyond what it frees, as far as that is positive."""
    h, w = outputs
    total = 0
    while h and w:
        length = h if w > h else w
        total += max(0, length * (f_b - f_a) - (kernel - 1) * f_a)
        h, w = (h, w - 1) if w > h else (h - 1, w)
    return total + kernel * f_a


FORMS = {"row": row_form, "transpose": transpose_form, "herringbone": herringbone_form}


def order_figures() -> list[Figure]:
    """Bytes beyond the input for each order, next to its closed form."""
    random = np.random.default_rng(1)
    shapes = [(*published, 3) for published in PUBLISHED]
    while len(shapes) < N_SHAPES:
        h, w, kernel = int(random.integers(2, 17)), int(random.integers(2, 17)), int(random.integers(1, 6))
        f_a = int(random.integers(1, 9))
        shapes.append((h, w, f_a, f_a + int(random.integers(1, 9)), kernel))
    figures, above, below = [], dict.fromkeys(ORDERS, 0), dict.fromkeys(ORDERS, 0)
    for h, w, f_a, f_b, kernel in shapes:
        where = f"{h}x{w}, {f_a} to {f_b}, {kernel}x{kernel}"
        shape = (h + kernel - 1, w + kernel - 1, f_a)
        figures.append(Figure(f"{where}: one buffer for each", h * w * f_b, "B"))
        for order in ORDERS:
            walk, form = slack(Window((kernel, kernel)), shape, f_b, order), FORMS[order]((h, w), kernel, f_a, f_b)
            figures.append(Figure(f"{where}: {order} (closed form {form})", walk, "B"))
            above[order] += walk > form
            below[order] += walk < form
    for order in ORDERS:
        name = f"{order}, {len(shapes)} shapes: closed form"
        figures.append(Figure(f"{name} larger than needed", below[order], "shapes"))
        figures.append(Figure(f"{name} too small", above[order], "shapes"))
    return figures


def main() -> None:
    """Plan everything twice; then walk over the orders."""
    figures = []
    for space in plugins.data_names("search_spaces", ".py"):
        dataset = datasets.placeholder(load_search_space(space).dataset)
        shares, peeled = [], []
        for candidate in random_candidates(space, N_CANDIDATES, seed=2):
            graph = untrained_graph(candidate, dataset)
            shares.append(1 - plan_memory(graph).size / plan_memory(graph, in_place=False).size)
            if candidate.trec is None and candidate.recipe.quantization.bits == 8:
                turned = untrained_graph(replace(candidate, kernels={"*": KernelConfig("in_place")}), dataset)
                peeled.append(1 - plan_memory(turned).size / plan_memory(graph).size)
        figures.append(Figure(f"{space}: arena saved, median", 100 * float(np.median(shares)), "%"))
        figures.append(Figure(f"{space}: arena saved, most", 100 * max(shares), "%"))
        if peeled:
            figures.append(Figure(f"{space}: saved by rows and columns beyond it", 100 * float(np.median(peeled)), "%"))
            figures.append(Figure(f"{space}: saved by rows and columns beyond it, most", 100 * max(peeled), "%"))
    random = np.random.default_rng(0)
    above = []
    for _ in range(N_SHAPES):
        kernel = int(random.integers(1, 6))
        shape = (int(random.integers(kernel, 20)), int(random.integers(kernel, 20)), int(random.integers(1, 17)))
        channels = int(random.integers(1, 33))
        walk = max(0, raster_distance(Window((kernel, kernel)), shape, channels))
        above.append(walk - closed_form(shape, kernel, channels) - BLOCK * (channels + shape[2]))
    met = max(above) <= 0
    figures.append(Figure(f"{N_SHAPES} shapes: walk above the closed form plus a block", max(above), "B", 0, met))
    show(figures + order_figures())


if __name__ == "__main__":
    main()
