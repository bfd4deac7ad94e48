"""The picture of a front: metric against metric, a triangle of preferences, or one line per preference."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cotrain.report.figure import Figure, axis, label_room, limits, listed
from cotrain.report.palette import SEQUENTIAL
from cotrain.report.pareto import FrontTask, Pareto
from cotrain.report.wording import label, plain

__all__ = ["Picture", "front_picture"]

MOST_VIEWS = 12
MOST_LINES = 200
"""Tasks of which a triangle is drawn, and preferences of which a line is: all are in the table's file."""
TRIANGLE = 3


@dataclass(frozen=True)
class Picture:
    """A picture and what the slider must know of it.

    Args:
        figure: To be drawn.
        kind: What it is: "plane" (metric against metric), "triangle" or "lines".
        marker: The trace that the slider moves; None if there is none.
        says: For people who cannot see it.
        caption: Beneath it.
    """

    figure: Figure
    kind: Literal["plane", "triangle", "lines"]
    marker: int | None
    says: str
    caption: str


def front_picture(front: Pareto) -> Picture:
    """Two tasks: one against the other. Three knobs: a triangle per task. Else one line per preference."""
    if len(front.tasks) == 2:
        return _plane(front)
    return _triangle(front) if len(front.names) == TRIANGLE else _lines(front)


def _plane(front: Pareto) -> Picture:
    first, second = front.tasks
    kept = np.flatnonzero(~front.dominated)
    efficient = kept[np.argsort(first.values[kept])]
    hover = [_says(front, point) for point in range(len(front.preferences))]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False,
            "x": listed(first.values[efficient]), "y": listed(second.values[efficient]),
            "line": {"color": "@muted", "width": 1, "dash": "dot"},
        },
        {
            "type": "scatter", "mode": "markers", "name": "the front", "text": hover,
            "x": listed(first.values), "y": listed(second.values),
            "error_x": _bars(first), "error_y": _bars(second),
            "marker": {
                "color": "@grouped", "size": 9,
                "symbol": ["circle-open" if dominated else "circle" for dominated in front.dominated],
            },
            "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>",
        },
        _control("equal weights", first.equal, second.equal, "@all-in-one", "square"),
        _control("single tasks, two networks", first.single, second.single, "@single", "diamond"),
        {
            "type": "scatter", "mode": "markers", "name": "slider", "hoverinfo": "skip", "x": [None], "y": [None],
            "marker": {"color": "@ink", "size": 16, "symbol": "circle-open", "line": {"width": 2.5, "color": "@ink"}},
        },
    ]  # fmt: skip
    figure = Figure(
        data=traces,
        layout={
            "xaxis": axis(_title(first), range=_range(first), nticks=7),
            "yaxis": axis(_title(second), range=_range(second), nticks=7),
            "showlegend": True,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "margin": {"l": 66, "r": 16, "t": 64, "b": 50},
        },
        height=440,
        max_width=640,
    )
    caption = (
        f"Validation samples; bars: 95 % interval over samples. {_corner(first, second)} is better. Hollow: dominated."
        " The ring is the slider. The square and the diamond are other networks, trained with the same budget each."
    )
    return Picture(figure, "plane", len(traces) - 1, f"{first.name} against {second.name} along the front", caption)


def _corner(first: FrontTask, second: FrontTask) -> str:
    return f"{'Upper' if second.higher else 'Lower'} {'right' if first.higher else 'left'}"


def _control(name: str, x: float, y: float, colour: str, symbol: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": listed([x]), "y": listed([y]),
        "marker": {"color": colour, "size": 11, "symbol": symbol},
        "hovertemplate": f"{name}<br>%{{x}}, %{{y}}<extra></extra>",
    }  # fmt: skip


def _bars(task: FrontTask) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "width": 0, "thickness": 1, "color": "@share",
        "array": listed(task.high - task.values), "arrayminus": listed(task.values - task.low),
    }  # fmt: skip


def _triangle(front: Pareto) -> Picture:
    shown = front.tasks[:MOST_VIEWS]
    hover = [_says(front, point) for point in range(len(front.preferences))]
    corners = dict(zip("abc", front.preferences.T, strict=True))
    traces = [
        {
            "type": "scatterternary", "mode": "markers", "text": hover, "cliponaxis": False,
            **{name: listed(values) for name, values in corners.items()},
            "customdata": listed(task.values),
            "hovertemplate": f"%{{text}}<br>{plain(_title(task))} %{{customdata}}<extra></extra>",
            "marker": {
                "size": 17, "color": listed(task.values), "colorscale": SEQUENTIAL, "reversescale": not task.higher,
                "colorbar": {"title": {"text": plain(_title(task))}, "thickness": 12, "len": 0.8, "orientation": "h",
                             "y": -0.12, "yanchor": "top"},
                "line": {"width": 0},
            },
        }
        for task in shown
    ]  # fmt: skip
    axes = {
        f"{name}axis": {
            "title": {"text": label(knob)}, "min": 0, "gridcolor": "@rule", "linecolor": "@muted", "nticks": 5,
        }
        for name, knob in zip("abc", front.names, strict=True)
    }  # fmt: skip
    figure = Figure(
        data=traces,
        layout={
            "ternary": {"sum": 1, "bgcolor": "@page", **axes},
            "showlegend": False,
            "margin": {"l": 56, "r": 56, "t": 50, "b": 90},
        },
        height=480,
        max_width=560,
        views=[task.name for task in shown],
    )
    caption = (
        "Every mark is a preference, at each corner all weight on the knob that is written there; darker is better (in"
        f" the dark: lighter). Validation samples. {_equals(shown)}"
    )
    return Picture(figure, "triangle", None, "Every task over the triangle of preferences", caption)


def _equals(tasks: tuple[FrontTask, ...]) -> str:
    return f"Equal weights in one network: {', '.join(f'{task.name} {task.equal:.4g}' for task in tasks)}."


def _lines(front: Pareto) -> Picture:
    names = [label(task.name) for task in front.tasks]
    places = np.array([task.place(task.values) for task in front.tasks]).T
    order = sorted(range(len(places)), key=lambda point: not front.dominated[point])[:MOST_LINES]
    traces = [
        _line(
            _says(front, point),
            places[point],
            "@missing" if front.dominated[point] else "@some",
            width=1,
            hover=_says(front, point),
        )
        for point in order
    ]
    equal = [float(task.place(task.equal)) for task in front.tasks]
    single = [float(task.place(task.single)) for task in front.tasks]
    traces += [
        _line("equal weights", equal, "@all-in-one", width=2.5, legend=True),
        _line("single tasks", single, "@single", width=2.5, legend=True, dash="dot"),
        _line("slider", [None] * len(names), "@ink", width=3, legend=True),
    ]
    for trace in traces:
        trace["x"] = list(range(len(names)))
    figure = Figure(
        data=traces,
        layout={
            "xaxis": axis("", tickvals=list(range(len(names))), ticktext=names, tickangle=-45, zeroline=False),
            "yaxis": axis("", range=[-0.03, 1.03], tickvals=[0, 1], ticktext=["worst", "best"], zeroline=False),
            "showlegend": True,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "margin": {"l": 60, "r": 16, "t": 56, "b": 30 + label_room([task.name for task in front.tasks])},
        },
        height=440,
        min_width=60 + 34 * len(names),
        max_width=900,
    )
    caption = (
        "One line per preference, one place per task: its metric from the worst to the best on the front and in the"
        " controls (validation samples). Grey: dominated."
    )
    return Picture(figure, "lines", len(traces) - 1, "Every task at every preference, from worst to best", caption)


def _line(
    name: str, places: Any, colour: str, *, width: float, legend: bool = False, dash: str = "solid", hover: str = ""
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "name": name, "y": places if None in list(places) else listed(places),
        "line": {"color": colour, "width": width, "dash": dash}, "showlegend": legend,
        "hovertemplate": f"{hover or name}<extra></extra>",
    }  # fmt: skip


def _says(front: Pareto, point: int) -> str:
    shares = zip(front.names, front.preferences[point], strict=True)
    return "<br>".join(f"{plain(name)} {share:.2f}" for name, share in shares if share > 0)


def _title(task: FrontTask) -> str:
    return f"{task.metric} of {label(task.name)}"


def _range(task: FrontTask) -> list[float]:
    return limits([task.values, task.low, task.high], include=(task.equal, task.single))
