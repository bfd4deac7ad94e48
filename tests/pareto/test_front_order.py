from dataclasses import replace

import pytest
import torch
from blends import analytic_front, binary_tasks

from cotrain.pareto.front_evaluation import evaluate_front
from cotrain.pareto.front_order import neighbours
from cotrain.pareto.preference import simplex_lattice


@pytest.mark.parametrize(("count", "divisions"), [(2, 10), (3, 6), (4, 4), (5, 3)])
def test_neighbours_on_a_lattice_are_one_division_apart(count, divisions):
    points = simplex_lattice(count, divisions)
    found = set(neighbours(points))
    apart = (points[:, None] - points[None]).abs().sum(-1)
    expected = {(int(a), int(b)) for a, b in (apart.triu(1) - 2 / divisions).abs().lt(1e-4).nonzero() if a < b}
    assert found == expected


def test_neighbours_on_a_line_are_adjacent_in_any_order():
    share = torch.tensor([0.4, 0.0, 1.0, 0.9, 0.13])
    found = neighbours(torch.stack([share, 1 - share], dim=1))
    assert {frozenset(pair) for pair in found} == {frozenset(p) for p in ((1, 4), (4, 0), (0, 3), (3, 2))}


def test_a_task_without_labels_is_not_out_of_order():
    front = analytic_front(lambda a: a, lambda a: 1 - a)
    front = replace(front, losses=torch.stack([front.losses[:, 0], torch.full((11,), torch.nan)], dim=1))
    assert all(order.of_corners and order.of_points for order in front.corners_in_order().values())


def test_equal_preferences_do_not_hide_neighbours():
    share = torch.tensor([0.0, 0.5, 0.5, 1.0])
    assert (0, 1) in neighbours(torch.stack([share, 1 - share], dim=1))


def test_an_ordered_front_has_no_violation_and_a_reversed_one_only_violations():
    front = analytic_front(lambda a: a, lambda a: 1 - a)
    ordered = front.order_violations()
    assert (ordered.count, ordered.total, ordered.steps) == (0, 20, ())
    assert all(order.of_corners and order.of_points for order in front.corners_in_order().values())
    inverted = replace(front, losses=front.losses.flip(0))
    assert (inverted.order_violations().count, inverted.order_violations().total) == (20, 20)
    assert not any(order.of_corners or order.of_points for order in inverted.corners_in_order().values())
    assert "out of order at the corner of age, edu" in str(inverted)


def test_one_wrong_step_is_named():
    front = analytic_front(lambda a: a, lambda a: 1 - a)
    losses = front.losses.clone()
    losses[0, 0] = losses[1, 0] + 0.005  # all preference on age, and its loss is higher than at .9
    wrong = replace(front, losses=losses)
    (step,) = wrong.order_violations().steps
    assert (step.name, step.start, step.end) == ("age", 1, 0)
    assert step.rise == pytest.approx(0.005)
    order = wrong.corners_in_order()["age"]
    assert order.of_corners
    assert not order.of_points


def test_a_group_is_ordered_by_the_mean_of_its_tasks():
    def outputs_at(inputs, preferences):
        return 4 * inputs * preferences.repeat_interleave(2, 1).unsqueeze(1)

    shares = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    inputs = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    samples = inputs, (inputs > 0).float()
    front = evaluate_front(outputs_at, binary_tasks(4), samples, simplex_lattice(2, 4), ("ab", "cd"), shares=shares)
    torch.testing.assert_close(front.knob_losses()[:, 1], front.losses[:, 2:].mean(1))
    assert (front.order_violations().count, front.order_violations().total) == (0, 8)
    assert all(order.of_points for order in front.corners_in_order().values())


def test_a_point_that_is_not_finite_is_neither_best_nor_in_the_way():
    front = analytic_front(lambda a: a, lambda a: 1 - a)
    losses, metrics = front.losses.clone(), front.metrics.clone()
    losses[4, 0] = metrics[4, 0] = torch.nan
    broken = replace(front, losses=losses, metrics=metrics)
    assert not broken.nondominated()[4]
    assert broken.knee() != 4
    assert broken.knob_losses()[:, 0].isnan().nonzero().flatten().tolist() == [4]
    assert broken.order_violations().total == 18  # of age's ten steps two are not known
    assert not broken.knob_losses()[:, 1].isnan().any()


def test_a_front_whose_losses_do_not_vary_is_collapsed_and_says_so() -> None:
    front = analytic_front(lambda share: share, lambda share: 1 - share)
    flat = replace(front, losses=front.losses * 1e-5 + torch.tensor([0.4, 0.7]))
    assert flat.is_collapsed()
    assert "Collapsed" in str(flat)
    assert not front.is_collapsed()
    assert not replace(front, losses=flat.losses * torch.linspace(1, 1.01, len(front))[:, None]).is_collapsed()
