"""Weights of which most are zero as the list of those that are not: a distance and a value of one byte each.

A run of weights is a list of (gap, value): the gap says how many places further a value stands than the one before it,
the first counted from the beginning of the run. Where more than 255 zeros follow each other, zeros stand in between. So
a kernel adds the gap to its place and multiplies, and knows nothing of these.
"""

import numpy as np

from trec_dse.graph import IntArray

FURTHEST = 255
ENTRY_BYTES = 2


def entries_of(run: IntArray) -> list[tuple[int, int]]:
    """(gap, value) of every entry of one run of int8 weights (K,)."""
    found, at = [], 0
    for place in np.flatnonzero(run).tolist():
        while place - at > FURTHEST:
            at += FURTHEST
            found.append((FURTHEST, 0))
        found.append((place - at, int(run[place])))
        at = place
    return found


def pack_runs(runs: IntArray) -> tuple[IntArray, IntArray]:
    """Runs (n, K) of int8 weights as the numbers of their entries, uint16 (n,), and all entries, uint8 (entries * 2,).

    Bytes above 127 are negative values. Without any entry there is one that nothing reads, for C has no empty arrays.
    """
    lists = [entries_of(run) for run in runs]
    flat = [byte for entries in lists for gap, value in entries for byte in (gap, value & 255)]
    return np.array([len(each) for each in lists], np.uint16), np.array(flat or [0, 0], np.uint8)


def unpack_runs(counts: IntArray, entries: IntArray, length: int) -> IntArray:
    """What `pack_runs` was given, with runs of `length`: int8 (n, length)."""
    runs, place = np.zeros((len(counts), length), np.int8), 0
    for run, count in zip(runs, counts.tolist(), strict=True):
        at = 0
        for _ in range(count):
            at += int(entries[place])
            run[at] = entries[place + 1 : place + 2].view(np.int8)[0]
            place += ENTRY_BYTES
    return runs
