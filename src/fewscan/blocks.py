"""Numbers of large pictures, counted and looked up some at a time: NumPy makes int64 of all of them at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Integer, Shaped

# Numbers at a time: 32 MiB as int64.
AT_A_TIME = 1 << 22


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, AT_A_TIME):
        yield slice(start, start + AT_A_TIME)


def count_numbers(numbers: Integer[np.ndarray, "*shape"], least: int = 1) -> Int[np.ndarray, "n"]:
    """Count how often each number occurs, as `np.bincount` does.

    Args:
        numbers: Numbers of at least 0.
        least: Numbers that are counted at least, from 0.

    >>> count_numbers(np.array([[3, 0], [3, 1]])).tolist()
    [1, 1, 0, 2]
    """
    counts = np.zeros(max(least, int(numbers.max(initial=0)) + 1), np.int64)
    flat = numbers.reshape(-1)
    for block in _blocks(flat.size):
        counts += np.bincount(flat[block], minlength=len(counts))
    return counts


def look_up(table: Shaped[np.ndarray, "n"], numbers: Integer[np.ndarray, "*shape"]) -> np.ndarray:
    """Take of a table what stands at each number, as `table[numbers]` does.

    Args:
        table: What stands at 0, 1, 2, ...
        numbers: Numbers of at least 0, below the table's length.

    >>> look_up(np.array([5, 6, 7]), np.array([[0, 2]])).tolist()
    [[5, 7]]
    """
    found = np.empty(numbers.size, table.dtype)
    flat = numbers.reshape(-1)
    for block in _blocks(flat.size):
        found[block] = table[flat[block]]
    return found.reshape(numbers.shape)
