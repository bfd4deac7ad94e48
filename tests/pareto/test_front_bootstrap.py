import math
from dataclasses import replace

import pytest
import torch
from blends import binary_data, binary_tasks, blend, blend_front

from cotrain.pareto.bootstrap import resampled_means
from cotrain.pareto.front_evaluation import evaluate_front
from cotrain.pareto.front_volume import front_difference
from cotrain.pareto.preference import preference_grid


def plainly_resampled(values, labelled, draws, seed):
    """The same means, drawn sample by sample."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(labelled), (draws, len(labelled)), generator=generator)
    return torch.stack([values[:, row].double().sum(1) / labelled[row].sum(0) for row in rows])


def test_means_equal_those_of_plain_resampling():
    scores = blend_front(n=80).scores
    (drawn,) = resampled_means(scores.losses, scores.labelled, draws=20, seed=5)
    torch.testing.assert_close(drawn, plainly_resampled(scores.losses, scores.labelled, 20, 5), rtol=1e-6, atol=1e-6)


def test_chunks_are_of_the_same_distribution(monkeypatch):
    front = blend_front(n=80)
    whole = front.intervals(draws=400)
    monkeypatch.setattr("cotrain.pareto.bootstrap.CHUNK", 80 * 3)
    for ends, expected in zip(front.intervals(draws=400), whole, strict=True):
        torch.testing.assert_close(ends, expected, rtol=0.0, atol=0.02)


def test_an_interval_is_a_function_of_the_seed():
    front = blend_front()
    first, again = (front.hypervolume_interval(0.0, draws=50) for _ in range(2))
    other = front.hypervolume_interval(0.0, draws=50, seed=1)
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.value == front.hypervolume(0.0) == other.value


def test_an_interval_of_an_accuracy_is_as_wide_as_theory_says():
    front = blend_front(n=2000, preferences=3)
    low, high = front.intervals(draws=1000)
    labels = front.scores.labelled.sum(0)
    expected = 2 * 1.96 * (front.metrics * (1 - front.metrics) / labels).sqrt()
    torch.testing.assert_close(high - low, expected, rtol=0.12, atol=0.0)
    assert ((low < front.metrics) & (front.metrics < high)).all()


def test_intervals_cover_the_truth():
    truth = blend_front(n=200_000, preferences=3).metrics
    covered = []
    for seed in range(100, 160):
        low, high = blend_front(n=200, seed=seed, preferences=3).intervals(draws=200)
        covered.append((low <= truth) & (truth <= high))
    assert 0.9 < torch.stack(covered).double().mean() < 0.99


def test_samples_that_are_all_alike_have_no_width():
    tasks = binary_tasks(2)
    samples = torch.full((30, 2), 0.3), torch.ones(30, 2)
    front = evaluate_front(blend, tasks, samples, preference_grid(3, tasks.names), tasks.names)
    low, high = front.intervals(metric="loss", draws=20)
    torch.testing.assert_close(low, high, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(low, front.losses, rtol=1e-6, atol=0.0)


def test_resampling_is_joint_over_the_points():
    front = blend_front()
    twice = replace(
        front,
        **{name: getattr(front, name).repeat(2, 1) for name in ("preferences", "losses", "metrics")},
        scores=replace(
            front.scores, losses=front.scores.losses.repeat(2, 1, 1), metrics=front.scores.metrics.repeat(2, 1, 1)
        ),
    )
    once, doubled = (one.hypervolume_interval(0.0, draws=30) for one in (front, twice))
    assert (doubled.low, doubled.high) == pytest.approx((once.low, once.high), rel=1e-6)


def test_a_front_differs_from_itself_by_exactly_nothing():
    front = blend_front()
    difference = front_difference(front, front, 0.0, draws=30)
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_a_difference_is_sharper_than_its_parts():
    tasks = binary_tasks(2)
    first = blend_front(n=1000)
    second = evaluate_front(
        lambda inputs, preferences: blend(inputs, preferences) + 0.5 * inputs.flip(1),
        tasks,
        binary_data(2, 1000),
        preference_grid(None, tasks.names),
        tasks.names,
    )
    difference = front_difference(first, second, 0.0, draws=200)
    alone = first.hypervolume_interval(0.0, draws=200)
    assert difference.value == pytest.approx(first.hypervolume(0.0) - second.hypervolume(0.0))
    assert difference.high - difference.low < alone.high - alone.low
    assert difference.low > 0


def test_fronts_on_other_samples_are_not_compared():
    with pytest.raises(ValueError, match="same samples in the same order"):
        front_difference(blend_front(seed=0), blend_front(seed=1), 0.0)
    with pytest.raises(ValueError, match="same tasks"):
        front_difference(blend_front(2), blend_front(3), 0.0)


def test_bad_options_are_refused():
    front = blend_front(n=20)
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        front.intervals(draws=10, level=95)
    with pytest.raises(ValueError, match="at least 2 draws"):
        front.hypervolume_interval(0.0, draws=1)
    with pytest.raises(ValueError, match="read from a file"):
        replace(front, scores=None).intervals()


def test_an_interval_says_its_level():
    text = str(blend_front().hypervolume_interval(0.0, draws=20, level=0.9))
    assert "90%" in text
    assert math.isfinite(float(text.split()[0]))


def test_draws_without_a_label_of_a_task_are_left_out():
    inputs, targets = binary_data(2, 40)
    targets[3:, 0] = math.nan
    tasks = binary_tasks(2)
    front = evaluate_front(blend, tasks, (inputs, targets), preference_grid(5, tasks.names), tasks.names)
    interval = front.hypervolume_interval(0.0, draws=200)
    assert interval.low <= interval.value <= interval.high
    assert front_difference(front, front, 0.0, draws=200).high == 0
