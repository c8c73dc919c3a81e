"""Numbers are counted and looked up a block at a time as NumPy does it at once."""

import numpy as np
import pytest

from fewscan import blocks


@pytest.mark.parametrize("shape", [(0,), (7,), (9, 11), (2, 3, 5)])
def test_blocks_give_what_numpy_gives(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "AT_A_TIME", 10)
    numbers = np.random.default_rng(0).integers(0, 6, shape).astype(np.int32)
    assert np.array_equal(blocks.count_numbers(numbers, 8), np.bincount(numbers.ravel(), minlength=8))
    table = np.arange(6, dtype=np.int16) ** 2
    assert np.array_equal(blocks.look_up(table, numbers), table[numbers])
    assert blocks.look_up(table, numbers).dtype == table.dtype


def test_what_lies_turned_in_memory_is_looked_up_in_place() -> None:
    numbers = np.arange(6).reshape(2, 3).T
    assert np.array_equal(blocks.look_up(np.arange(6) + 1, numbers), numbers + 1)
