import math

import pytest
import torch
from torch import nn

from fewscan.optimiser import OptimiserSettings, clip_gradients, make_optimiser, set_learning_rate


def network() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    module[1].bias.requires_grad_(False)
    return module


def test_adamw_shrinks_matrices_and_leaves_biases_and_normalisations_alone() -> None:
    module = network()
    optimiser = make_optimiser(module, OptimiserSettings(kind="adamw", learning_rate=0.1, weight_decay=0.5))
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    optimiser.step()
    after = dict(module.named_parameters())
    torch.testing.assert_close(after["0.weight"], before["0.weight"] * (1 - 0.1 * 0.5))
    for name in ("0.bias", "1.weight", "1.bias"):
        torch.testing.assert_close(after[name], before[name])


def test_the_first_step_of_adamw_is_as_long_as_the_rate_whatever_the_gradient() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    module = nn.Module()
    module.weight = weight
    optimiser = make_optimiser(module, OptimiserSettings(kind="adamw", learning_rate=0.1))
    weight.grad = torch.tensor([1e-2, -1e3])
    optimiser.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([0.9, 1.1]), atol=1e-5, rtol=0)


def test_sgd_counts_the_penalty_with_the_gradient() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    module = nn.Module()
    module.weight = weight
    optimiser = make_optimiser(module, OptimiserSettings(learning_rate=0.1, momentum=0.0, weight_decay=0.5))
    weight.grad = torch.tensor([1.0])
    optimiser.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([2.0 - 0.1 * (1.0 + 0.5 * 2.0)]))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_what_takes_no_gradient_is_not_given_to_the_optimiser(kind: str) -> None:
    module = network()
    optimiser = make_optimiser(module, OptimiserSettings(kind=kind))
    given = {id(weight) for group in optimiser.param_groups for weight in group["params"]}
    assert given == {id(weight) for weight in module.parameters() if weight.requires_grad}


def test_rate_warms_up_and_decays_in_all_groups() -> None:
    settings = OptimiserSettings(kind="adamw", learning_rate=0.01, warm_up=4)
    optimiser = make_optimiser(network(), settings)
    rates = [set_learning_rate(optimiser, settings, update, 100) for update in range(100)]
    assert rates[0] == pytest.approx(0.01 / 4)
    assert rates[50] == pytest.approx(0.01 * 0.5**0.9)
    assert [group["lr"] for group in optimiser.param_groups] == [rates[-1]] * 2


@pytest.mark.parametrize(("clip", "norm"), [(0.0, 5.0), (1.0, 1.0), (10.0, 5.0)])
def test_a_long_gradient_is_shortened_to_the_norm_and_a_short_one_is_left(clip: float, norm: float) -> None:
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    weights[0].grad, weights[1].grad = torch.tensor([3.0]), torch.tensor([-4.0])
    clip_gradients(weights, OptimiserSettings(clip=clip))
    grads = [float(weight.grad) for weight in weights if weight.grad is not None]
    assert math.hypot(*grads) == pytest.approx(norm, rel=1e-5)
    assert grads[0] / grads[1] == pytest.approx(-0.75)
