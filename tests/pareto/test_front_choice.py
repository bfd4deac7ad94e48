from dataclasses import replace

import pytest
import torch
from blends import analytic_front, blend_front

from cotrain.errors import UnknownNameError
from cotrain.pareto.front import Front
from cotrain.pareto.preference import simplex_lattice


def quarter_circle():
    """Accuracies on a quarter circle; age's loss (1 - a)^2, edu's a^2."""
    return analytic_front(lambda a: (1 - (1 - a) ** 2).sqrt(), lambda a: (1 - a**2).sqrt())


@pytest.mark.parametrize("bound", [0.1, 0.3, 0.64, 0.8, 0.95])
def test_two_names_reach_the_analytic_optimum(bound):
    front = analytic_front(lambda a: 1 - (1 - a) ** 2, lambda a: 1 - a**2)
    choice = front.choose(minimize="age", subject_to={"edu": f">= {bound}"})
    best = (1 - bound) ** 0.5  # the largest share of age that leaves edu its bound
    assert choice.feasible
    assert choice.violation == {}
    assert choice.method == "curve"
    assert choice.as_dict["age"] == pytest.approx(best, abs=0.003)
    assert choice.metrics["edu"] == pytest.approx(bound, abs=1e-3)
    assert choice.losses["age"] == pytest.approx((1 - best) ** 2, abs=0.003)
    assert choice.preference.sum() == pytest.approx(1)


def test_names_that_mean_the_same_choose_the_same():
    front = quarter_circle()
    forms = [
        front.choose(minimize="age", subject_to={"edu": ">= 0.8"}),
        front.choose(minimize="loss/age", subject_to={"accuracy/edu": ">=.8"}),
        front.choose(minimize="loss/age", subject_to={"metric/edu": " >= 8e-1 "}),
    ]
    for form in forms[1:]:
        assert torch.equal(form.preference, forms[0].preference)


def test_a_smaller_error_is_wanted_and_bounded_from_above():
    front = analytic_front(lambda a: 2 - a, lambda a: 5 + 3 * a, ("mae", "mae"))
    choice = front.choose(minimize="mae/age", subject_to={"mae/edu": "<= 6.2"})
    assert choice.as_dict["age"] == pytest.approx(0.4, abs=1e-3)
    assert choice.metrics == pytest.approx({"age": 1.6, "edu": 6.2}, abs=2e-3)
    assert choice.metric_names == {"age": "mae", "edu": "mae"}


def test_without_bounds_the_corner_is_chosen():
    front = quarter_circle()
    assert front.choose(maximize="age").as_dict == {"age": 1.0, "edu": 0.0}
    assert front.choose(minimize="edu").as_dict == {"age": 0.0, "edu": 1.0}


def test_several_bounds_are_all_kept():
    choice = quarter_circle().choose(maximize="age", subject_to={"edu": ">= 0.5", "loss/edu": "<= 0.25"})
    assert choice.feasible
    assert choice.as_dict["age"] == pytest.approx(0.5, abs=0.01)


def test_noise_is_smoothed():
    front = quarter_circle()
    noise = 0.02 * torch.randn(11, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    choice = replace(front, metrics=front.metrics + noise).choose(minimize="age", subject_to={"edu": ">= 0.8"})
    assert choice.as_dict["age"] == pytest.approx(0.6, abs=0.08)


def test_a_front_that_runs_the_wrong_way_is_followed_as_it_is():
    front = quarter_circle()
    inverted = replace(front, losses=front.losses.flip(0), metrics=front.metrics.flip(0))
    choice = inverted.choose(minimize="age", subject_to={"edu": ">= 0.8"})
    assert choice.as_dict["age"] == pytest.approx(0.4, abs=0.01)


def test_where_nothing_is_feasible_the_least_violation_is_chosen_and_flagged():
    choice = quarter_circle().choose(minimize="age", subject_to={"edu": ">= 1.25"})
    assert not choice.feasible
    assert choice.as_dict["edu"] == 1.0
    assert choice.violation == pytest.approx({"accuracy/edu >= 1.25": 0.25})
    assert "No preference keeps every bound" in str(choice)
    assert "accuracy/edu >= 1.25 by 0.25" in choice.sentence


def three_names(loss_of_share=lambda share: (1 - share) ** 2):
    preferences = simplex_lattice(3, 5)
    losses = loss_of_share(preferences.double())
    names = ("a", "b", "c")
    return Front(names, names, preferences, losses, 1 - losses, ("accuracy",) * 3, torch.eye(3))


def test_three_names_take_the_best_point():
    choice = three_names().choose(minimize="a", subject_to={"loss/b": "<= 0.64", "loss/c": "<= 0.64"})
    assert choice.method == "point"
    assert choice.as_dict == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.2})


def test_three_names_are_refined_on_a_step_that_is_in_order():
    front = three_names(lambda share: 1 - share)
    choice = front.choose(minimize="a", subject_to={"loss/b": "<= 0.7"})
    assert choice.method == "refined"
    assert choice.as_dict == pytest.approx({"a": 0.7, "b": 0.3, "c": 0.0}, abs=1e-3)
    assert choice.losses["b"] == pytest.approx(0.7, abs=1e-3)
    assert "straight line" in choice.sentence


def test_a_step_that_is_out_of_order_is_not_refined():
    bounds = {"loss/b": "<= 0.3", "loss/c": "<= 0.5"}
    choice = three_names(lambda share: share).choose(minimize="a", subject_to=bounds)  # a loss rises with its share
    assert choice.method == "point"
    assert choice.as_dict == pytest.approx({"a": 0.4, "b": 0.2, "c": 0.4})


def test_three_names_infeasible_is_flagged():
    choice = three_names().choose(minimize="a", subject_to={"loss/b": "<= 0.1", "loss/c": "<= 0.1"})
    assert not choice.feasible
    assert set(choice.violation) == {"loss/b <= 0.1", "loss/c <= 0.1"}


def test_a_choice_needs_no_sample_scores():
    front = blend_front()
    chosen = [one.choose(maximize="t0", subject_to={"t1": ">= 0.8"}) for one in (front, replace(front, scores=None))]
    assert chosen[0].sentence == chosen[1].sentence


@pytest.mark.parametrize("options", [{}, {"minimize": "age", "maximize": "edu"}])
def test_one_thing_is_made_best(options):
    with pytest.raises(ValueError, match="either minimize= or maximize="):
        quarter_circle().choose(**options)


@pytest.mark.parametrize("name", ["income", "loss/income", "agee/x", "loss/"])
def test_an_unknown_task_is_refused_with_those_there_are(name):
    with pytest.raises(UnknownNameError, match="age"):
        quarter_circle().choose(minimize=name)
    with pytest.raises(UnknownNameError, match="age"):
        quarter_circle().choose(minimize="age", subject_to={name: ">= 0.5"})


def test_an_unknown_metric_is_refused_with_those_there_are():
    with pytest.raises(UnknownNameError, match="'loss/age' and 'accuracy/age'"):
        quarter_circle().choose(minimize="mae/age")


@pytest.mark.parametrize("bound", [0.8, "0.8", "> 0.8", "at least .8", ">= nan", ""])
def test_a_bound_without_a_direction_is_refused(bound):
    with pytest.raises(ValueError, match=r"such as '>= 0\.82'"):
        quarter_circle().choose(minimize="age", subject_to={"edu": bound})


def test_the_wrong_direction_is_refused():
    with pytest.raises(ValueError, match="Write maximize="):
        quarter_circle().choose(minimize="accuracy/age")
    with pytest.raises(ValueError, match="Write minimize="):
        quarter_circle().choose(maximize="loss/age")
