import pytest
import torch
from small_transference import MIXED, mixed_batch
from torch import nn

from cotrain import SharedTrunk, Task, TaskSet, shared_parameters
from cotrain.affinity.estimators import Place
from cotrain.affinity.loss_derivatives import LossDerivatives
from cotrain.affinity.relative_losses import RelativeLosses
from cotrain.affinity.sketched_observations import SketchedObservations
from cotrain.affinity.task_signs import TaskSigns
from cotrain.lookahead import task_gradients


def network():
    torch.manual_seed(0)
    return SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()), MIXED, 8)


def place_of(model, tasks=MIXED, seed=0):
    batch = mixed_batch(seed, missing=False)
    return Place(model, tasks, batch, shared_parameters(model, tasks, batch), 0.1, seed)


def test_scales_come_to_be_the_lengths_of_the_gradients():
    """Up to what tasks have in common, which makes them somewhat larger."""
    model, observations = network(), SketchedObservations(4, 16, along="tasks")
    for seed in range(30):
        observations.observe(place_of(model, seed=seed), RelativeLosses(MIXED.names), 1.0, 1.0)
    place = place_of(model)
    scales = observations._signs.scales(LossDerivatives.at(place))
    _, _, gradients = task_gradients(model, MIXED, place.batch, place.parameters, seed=0)
    lengths = (0.1 * torch.cat([value.flatten(1) for value in gradients.values()], 1).square().sum(1)).sqrt()
    ratio = scales / lengths
    assert ratio.max() / ratio.min() < 3
    assert 0.5 < ratio.median() < 4


@pytest.mark.parametrize("factor", [1000.0, 0.05])
def test_the_unit_of_a_loss_does_not_matter_to_the_other_tasks(factor):
    """One task's loss times a factor: its products are times the factor, those of the others the same."""
    model, found = network(), []
    for times in (1.0, factor):

        def loss(outputs, targets, times=times):
            return times * (outputs.sum(1) - targets).abs()

        tasks = TaskSet([*MIXED[:3], Task("own", "custom", 2, loss=loss)])
        observations = SketchedObservations(4, 8, along="tasks")
        for seed in range(5):
            observations.observe(place_of(model, tasks, seed), RelativeLosses(tasks.names), 1.0, 1.0)
        found.append(observations.changes.mean())
    torch.testing.assert_close(found[1][:3], found[0][:3], rtol=1e-3, atol=1e-6)  # relative to the target's loss
    torch.testing.assert_close(found[1][3] / factor, found[0][3], rtol=1e-3, atol=1e-6)


def test_a_task_without_a_gradient_and_one_not_seen_have_a_scale():
    derivatives = LossDerivatives.at(place_of(network()))
    fresh, signs = TaskSigns(4), TaskSigns(4)
    assert (fresh.scales(derivatives) > 0).all()
    outer = fresh.scales(derivatives)
    signs.add(torch.tensor([4 * outer[0] ** 2, torch.nan, 0.0, 4 * outer[3] ** 2]))
    scales = signs.scales(derivatives)
    torch.testing.assert_close(scales[[0, 1, 3]], 2 * outer[[0, 1, 3]])
    assert 0 < scales[2] < 0.1 * scales.median()
    derivatives.by_outputs.zero_()
    assert TaskSigns(4).scales(derivatives).eq(1).all()


def test_merging_and_resuming():
    one, other, both, again = (TaskSigns(3) for _ in range(4))
    first, second = torch.tensor([1.0, 2.0, torch.nan]), torch.tensor([3.0, torch.inf, 5.0])
    one.add(first)
    other.add(second)
    both.add(first)
    both.add(second)
    one.merge(other.state_dict())
    again.load_state_dict(both.state_dict())
    for found in (one, again):
        for name, value in both.state_dict().items():
            assert torch.equal(found.state_dict()[name], value)
