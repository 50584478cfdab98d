"""What growing outputs into dying inputs saves: arena of random candidates with and without, all spaces.

The walk of `ops/_in_place.py` is also held against the published closed form of row order (valid convolution, stride
1, one position at a time): h (w f_b - w_a f_a) + k f_a bytes beyond the input, an upper bound. Our kernels keep the
windows of a block of four positions until they have written it, which costs up to four pixels on either side.
"""

import numpy as np
from common import Figure, random_candidates, show

from trec_dse import datasets, plugins
from trec_dse.evaluate import untrained_graph
from trec_dse.graph import Window
from trec_dse.memory import plan_memory
from trec_dse.ops._in_place import BLOCK, raster_distance
from trec_dse.search_space import load_search_space

N_CANDIDATES, N_SHAPES = 12, 60


def closed_form(shape: tuple[int, int, int], kernel: int, channels: int) -> int:
    """Slack of row order by the published formula; 0 where an output pixel is no larger than what it frees."""
    height, width = shape[0] - kernel + 1, shape[1] - kernel + 1
    return max(0, height * (width * channels - shape[1] * shape[2]) + kernel * shape[2])


def main() -> None:
    """Plan everything twice."""
    figures = []
    for space in plugins.data_names("search_spaces", ".py"):
        dataset = datasets.placeholder(load_search_space(space).dataset)
        shares = []
        for candidate in random_candidates(space, N_CANDIDATES, seed=2):
            graph = untrained_graph(candidate, dataset)
            shares.append(1 - plan_memory(graph).size / plan_memory(graph, in_place=False).size)
        figures.append(Figure(f"{space}: arena saved, median", 100 * float(np.median(shares)), "%"))
        figures.append(Figure(f"{space}: arena saved, most", 100 * max(shares), "%"))
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
    show(figures)


if __name__ == "__main__":
    main()
