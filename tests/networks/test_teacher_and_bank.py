import pytest
import torch
from torch import nn

from fewscan.networks.bank import ClassQueue, MemoryBank
from fewscan.networks.ema import (
    labelling,
    make_teacher,
    set_teacher_mode,
    stochastic,
    update_teacher,
    warmed_momentum,
)


def net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))


def test_teacher_is_the_moving_average_of_weights_and_statistics():
    student = net()
    teacher = make_teacher(student)
    weight, mean = teacher[0].weight.clone(), teacher[1].running_mean.clone()
    student(torch.randn(4, 1, 8, 8) + 3)
    with torch.no_grad():
        student[0].weight.add_(1)
    update_teacher(teacher, student, 0.9)
    assert torch.allclose(teacher[0].weight, weight + 0.1)
    assert torch.allclose(teacher[1].running_mean, 0.9 * mean + 0.1 * student[1].running_mean)
    assert int(teacher[1].num_batches_tracked) == 1
    assert not any(p.requires_grad for p in teacher.parameters())


def test_own_statistics_come_from_the_teachers_batches_without_dropout():
    student = net()
    teacher = make_teacher(student)
    set_teacher_mode(teacher, "own")
    images = torch.randn(4, 1, 8, 8) + 3
    first, second = teacher(images), teacher(images)
    assert torch.equal(first, second)
    assert torch.allclose(first.mean((0, 2, 3)), torch.zeros(2), atol=1e-4)
    mean = teacher[1].running_mean.clone()
    assert mean.abs().sum() > 0
    update_teacher(teacher, student, 0.5, "own")
    assert torch.equal(teacher[1].running_mean, mean)


def test_averaged_statistics_are_used_as_they_are():
    teacher = make_teacher(net())
    set_teacher_mode(teacher, "averaged")
    before = teacher[1].running_mean.clone()
    teacher(torch.randn(4, 1, 8, 8) + 3)
    assert torch.equal(teacher[1].running_mean, before)


@pytest.mark.parametrize(("momentum", "same_as"), [(0.0, "student"), (1.0, "before")])
def test_extreme_momenta(momentum, same_as):
    student, other = net(), net()
    teacher = make_teacher(other)
    update_teacher(teacher, student, momentum)
    expected = student if same_as == "student" else other
    assert torch.equal(teacher[0].weight, expected[0].weight)


def test_momentum_warms_up():
    assert [warmed_momentum(0.99, t) for t in (0, 8, 80, 10_000)] == [0.1, 0.5, 0.9, 0.99]


def test_bank_is_first_in_first_out_and_in_the_state_dict():
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


def test_batch_larger_than_the_bank_leaves_its_last_entries():
    bank = MemoryBank(3, (1,))
    bank.push(torch.arange(5.0)[:, None])
    assert sorted(bank.entries[:, 0].tolist()) == [2, 3, 4]


def test_a_network_labels_for_itself_without_dropout_and_trains_on():
    network = net().train()
    images = torch.randn(4, 1, 8, 8)
    with labelling(network):
        assert torch.equal(network(images), network(images))
    assert all(module.training for module in network.modules())
    assert not torch.equal(network(images), network(images))


def test_monte_carlo_passes_differ_and_leave_no_trace():
    network = net()
    set_teacher_mode(network, "own")
    modes, state = [m.training for m in network.modules()], {k: v.clone() for k, v in network.state_dict().items()}
    images = torch.randn(4, 1, 8, 8)
    with stochastic(network):
        assert not torch.equal(network(images), network(images))
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def test_queue_keeps_the_last_of_each_class_and_what_it_has_of_absent_ones():
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
