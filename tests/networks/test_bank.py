"""Banks keep the newest entries."""

from __future__ import annotations

import torch

from fewscan.networks.bank import ClassQueue, MemoryBank


def test_bank_is_first_in_first_out_and_in_the_state_dict() -> None:
    bank = MemoryBank(5, (2,))
    for value in range(4):
        bank.push(torch.full((2, 2), float(value)))
    assert sorted(bank.entries[:, 0].tolist()) == [1, 2, 2, 3, 3]
    restored = MemoryBank(5, (2,))
    restored.load_state_dict(bank.state_dict())
    for each in (bank, restored):
        each.push(torch.full((1, 2), 9.0))
    assert torch.equal(bank.entries, restored.entries)
    assert sorted(bank.entries[:, 0].tolist()) == [2, 2, 3, 3, 9]


def test_batch_larger_than_the_bank_leaves_its_last_entries() -> None:
    bank = MemoryBank(3, (1,))
    bank.push(torch.arange(5.0)[:, None])
    assert sorted(bank.entries[:, 0].tolist()) == [2, 3, 4]


def test_queue_keeps_the_last_of_each_class_and_what_it_has_of_absent_ones() -> None:
    queue = ClassQueue(2, 3, 1)
    numbers = torch.arange(1.0, 9.0).reshape(2, 4, 1)
    queue.push(numbers[:, :2], torch.tensor([True, False]))
    assert queue.known.tolist() == [[True, True, False], [False] * 3]
    queue.push(numbers[:, 2:], torch.tensor([True, True]))
    assert queue.entries[0, :, 0].tolist() == [4, 2, 3]
    assert queue.known.tolist() == [[True] * 3, [True, False, True]]
    assert queue.entries[1, [0, 2], 0].tolist() == [8, 7]
    queue.push(10 * numbers, torch.tensor([False, True]))
    assert queue.entries[0, :, 0].tolist() == [4, 2, 3]
    assert sorted(queue.entries[1, :, 0].tolist()) == [60, 70, 80]
