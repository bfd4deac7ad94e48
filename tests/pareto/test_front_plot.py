import sys
from dataclasses import replace

import pytest
import torch
from blends import analytic_front, blend_front

pytest.importorskip("plotly")


def points_of(figure, name):
    (trace,) = [trace for trace in figure.data if trace.name == name]
    return list(zip(trace.x, trace.y, strict=True))


def test_two_tasks_are_a_curve_with_every_point_bars_and_the_knee():
    front = blend_front(n=60)
    figure = front.plot()
    kept = front.nondominated()
    rows = [tuple(row) for row in front.metrics.tolist()]
    assert points_of(figure, "not dominated") == [row for row, one in zip(rows, kept, strict=True) if one]
    assert points_of(figure, "knee") == [rows[front.knee()]]
    (trace,) = [trace for trace in figure.data if trace.name == "not dominated"]
    low, high = front.intervals(draws=400)
    assert list(trace.error_x.array) == pytest.approx((high - front.metrics)[kept, 0].clamp(min=0).tolist())
    assert list(trace.error_y.arrayminus) == pytest.approx((front.metrics - low)[kept, 1].clamp(min=0).tolist())
    assert "accuracy of t0 (larger is better)" in figure.layout.xaxis.title.text


def test_dominated_points_are_hollow():
    front = analytic_front(lambda a: a - 2 * (a > 0.95).double(), lambda a: 2 + a**3, ("accuracy", "mae"))
    figure = front.plot()
    (hollow,) = [trace for trace in figure.data if trace.name == "dominated"]
    assert hollow.marker.symbol == "circle-open"
    assert len(hollow.x) == int((~front.nondominated()).sum()) > 0
    assert "mae of edu (smaller is better)" in figure.layout.yaxis.title.text


def test_a_front_from_a_file_is_drawn_without_bars():
    figure = replace(blend_front(n=60), scores=None).plot()
    assert all(trace.error_x.array is None for trace in figure.data)
    assert "bars" not in figure.layout.title.text


def test_three_names_are_a_triangle_with_a_menu_of_metrics():
    front = blend_front(3, n=60)
    figure = front.plot()
    triangles = [trace for trace in figure.data if trace.type == "scatterternary"]
    assert len(triangles) == 4  # three metrics and the knee
    assert [trace.visible for trace in triangles[:3]] == [True, False, False]
    for number, button in enumerate(figure.layout.updatemenus[0].buttons):
        assert button.label == f"accuracy/t{number}"
        assert button.args[0]["visible"] == [number == other for other in range(3)] + [True]
        assert list(triangles[number].marker.color) == front.metrics[:, number].tolist()
        assert list(triangles[0]["abc"[number]]) == pytest.approx(front.preferences[:, number].tolist())


def test_more_names_are_parallel_axes():
    front = blend_front(5, n=60)
    (trace,) = front.plot().data
    assert trace.type == "parcoords"
    labels = [axis.label for axis in trace.dimensions]
    assert labels == [f"t{number}" for number in range(5)] + [f"accuracy/t{number}" for number in range(5)]
    assert list(trace.dimensions[7]["values"]) == front.metrics[:, 2].tolist()


def test_two_groups_of_many_tasks_are_shown_by_their_mean_losses():
    front = blend_front(14, n=60, preferences=20)
    spread = torch.rand(20, 1, generator=torch.Generator().manual_seed(0))
    shares = torch.zeros(2, 14)
    shares[0, :7] = shares[1, 7:] = 1 / 7
    grouped = replace(front, names=("left", "right"), preferences=torch.cat([spread, 1 - spread], 1), shares=shares)
    (trace,) = grouped.plot().data
    assert [axis.label for axis in trace.dimensions] == ["left", "right", "loss/left", "loss/right"]


def test_names_are_shown_as_they_are():
    front = replace(blend_front(n=30), names=("<b>a</b>", "b"), tasks=("<b>a</b>", "b"))
    assert "&lt;b&gt;a" in front.plot().layout.title.text


def test_without_plotly_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ImportError, match=r"cotrain\[report\]"):
        blend_front(n=20).plot()
