from dataclasses import replace

import pytest
import torch
from blends import analytic_front, blend_front

from cotrain.pareto.hypervolume import hypervolume


def test_the_hypervolume_has_the_direction_of_each_metric():
    front = analytic_front(lambda a: a, lambda a: 2 + 3 * a, ("accuracy", "mae"))
    expected = hypervolume(torch.stack([front.metrics[:, 0], 10 - front.metrics[:, 1]], dim=1), torch.zeros(2))
    assert front.hypervolume([0.0, 10.0]) == pytest.approx(expected)
    assert front.hypervolume({"edu": 10.0, "age": 0.0}) == pytest.approx(expected)
    losses = hypervolume(1 - front.losses, torch.zeros(2))
    assert front.hypervolume(1.0, metric="loss") == pytest.approx(losses)


def test_the_hypervolume_of_one_task_is_its_best_value():
    front = analytic_front(lambda a: a, lambda a: 2 + 3 * a, ("accuracy", "mae"))
    assert front.hypervolume(0.25, tasks=["age"]) == pytest.approx(0.75)
    assert front.hypervolume(10.0, tasks=["edu"]) == pytest.approx(8.0)


def test_the_knee_of_a_bent_front_is_its_bend():
    bent = analytic_front(lambda a: (2 * a).clamp(max=1), lambda a: (2 - 2 * a).clamp(max=1))
    assert bent.knee() == 5
    assert bent.nondominated().tolist() == [number == 5 for number in range(11)]


@pytest.mark.parametrize("power", [2, 4])
def test_the_knee_lies_farthest_from_the_line_through_the_ends(power):
    front = analytic_front(lambda a: 0.5 + 0.1 * (1 - (1 - a) ** power), lambda a: 7 * (1 - a**power))
    points = (front.metrics - front.metrics.amin(0)) / (front.metrics.amax(0) - front.metrics.amin(0))
    along = points[0] - points[-1]
    offset = points - points[-1]
    distances = (along[0] * offset[:, 1] - along[1] * offset[:, 0]).abs()
    assert front.knee() == int(distances.argmax())


def test_the_knee_does_not_depend_on_units():
    front = blend_front(3)
    metrics = front.metrics * torch.tensor([1.0, 100.0, 0.01]) + 5
    assert replace(front, metrics=metrics).knee() == front.knee()


def test_a_front_of_one_point_is_a_front():
    front = blend_front(preferences=torch.tensor([0.5, 0.5]))
    assert len(front) == 1
    assert front.knee() == 0
    assert front.order_violations().total == 0
    assert front.choose(minimize="t0").method == "point"
    assert "Front of 1 preferences" in str(front)


def test_ranges_are_by_metric_and_task():
    front = analytic_front(lambda a: a, lambda a: 2 + 3 * a, ("accuracy", "mae"))
    assert front.ranges() == {
        "loss/age": (0.0, 1.0),
        "loss/edu": (0.0, 1.0),
        "accuracy/age": (0.0, 1.0),
        "mae/edu": (2.0, 5.0),
    }


def test_the_text_marks_knee_and_dominated_points():
    front = analytic_front(lambda a: a - 2 * (a > 0.95).double(), lambda a: 1 - a**3)
    lines = str(front).splitlines()
    rows = lines[2 : 2 + len(front)]
    marks = [row[1] for row in rows]
    assert marks[0] == " "
    assert marks.count("K") == 1
    assert marks.index("K") == front.knee()
    assert "every corner is in order" in lines[-1]
    assert len({len(row) for row in lines[1 : 2 + len(front)]}) == 1


def test_the_text_of_many_points_and_tasks_is_short():
    lines = str(blend_front(10, n=30)).splitlines()
    assert len(lines) < 30
    assert any("more preferences" in line for line in lines)
    assert any("2 more tasks" in line for line in lines)


def test_bad_input_is_refused():
    front = blend_front(n=20)
    with pytest.raises(ValueError, match="'metric' or 'loss'"):
        front.hypervolume(0.0, metric="accuracy")
    with pytest.raises(ValueError, match="no task 'age'"):
        front.hypervolume(0.0, tasks=["age"])
    with pytest.raises(ValueError, match="The reference must name"):
        front.hypervolume({"t0": 0.0})
    with pytest.raises(ValueError, match="one number, or one for each"):
        front.hypervolume([0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="needs losses"):
        replace(front, losses=front.losses[:3])
    with pytest.raises(ValueError, match="a metric for each"):
        replace(front, metric_names=("accuracy",))
