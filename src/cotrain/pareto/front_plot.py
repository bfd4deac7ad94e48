"""A front as a figure: two tasks as a curve, three names as a triangle, more as parallel coordinates."""

import html
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cotrain.extras import require
from cotrain.pareto.sample_scores import larger_is_better

if TYPE_CHECKING:
    from cotrain.pareto.front import Front

__all__ = ["plot_front"]

# From orange to blue through grey, the pair that every common colour-vision deficiency keeps apart.
BETWEEN = [[0.0, "#b04a00"], [0.25, "#dd9455"], [0.5, "#8d97a5"], [0.75, "#5f9fd6"], [1.0, "#0a4d8c"]]
BETTER = [[0.0, "#f0eee8"], [0.5, "#86b7e0"], [1.0, "#0a4d8c"]]
INK, MUTED, RULE, KNEE = "#1b1f24", "#5b6470", "#d9dde3", "#1b1f24"

DRAWS = 400
"""Enough for bars that are read by eye."""

MOST_AXES = 12
"""Parallel axes beyond this run into each other; the names' mean losses are shown then."""

AXIS = 95
"""Pixels between parallel axes, so that their names do not touch."""


def plot_front(front: "Front") -> Any:
    """See `Front.plot`."""
    plotly = require("plotly.graph_objects", extra="report")
    if len(front.names) == 2 and len(front.tasks) == 2:
        return _curve(plotly, front)
    if len(front.names) == 3:
        return _triangle(plotly, front)
    return _parallel(plotly, front)


def _curve(plotly: Any, front: "Front") -> Any:
    kept, knee = front.nondominated(), front.knee()
    share = front.preferences[:, 0].tolist()
    x, y = front.metrics.T.tolist()
    bars = _error_bars(front)
    first, second = (_plain(name) for name in front.names)
    order = front.preferences[:, 0].argsort().tolist()
    line = plotly.Scatter(
        x=[x[point] for point in order],
        y=[y[point] for point in order],
        mode="lines",
        line={"color": RULE, "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    traces = [line]
    for name, mask in (("not dominated", kept), ("dominated", ~kept)):
        points = mask.nonzero().flatten().tolist()
        if not points:
            continue
        colours = [share[point] for point in points]
        marker = {"size": 11, "coloraxis": "coloraxis", "color": colours}
        if name == "dominated":
            marker = {"symbol": "circle-open", "size": 10, "coloraxis": "coloraxis", "color": colours}
        traces.append(
            plotly.Scatter(
                x=[x[point] for point in points],
                y=[y[point] for point in points],
                mode="markers",
                name=name,
                marker=marker,
                customdata=[[share[point], 1 - share[point]] for point in points],
                hovertemplate=f"{first} %{{customdata[0]:.2f}}, {second} %{{customdata[1]:.2f}}<br>"
                "%{x:.4g} / %{y:.4g}<extra></extra>",
                **{axis: _of(bar, points) for axis, bar in bars.items()},
            )
        )
    traces.append(
        plotly.Scatter(
            x=[x[knee]],
            y=[y[knee]],
            mode="markers",
            name="knee",
            marker={"symbol": "circle-open", "size": 19, "color": KNEE, "line": {"width": 2}},
            hoverinfo="skip",
        )
    )
    titles = [f"{metric} of {_plain(task)}" for metric, task in zip(front.metric_names, front.tasks, strict=True)]
    better = larger_is_better(front.metric_names)
    axes = [
        {
            "title": {"text": f"{title} ({'larger' if up else 'smaller'} is better)"},
            "gridcolor": RULE,
            "zeroline": False,
        }
        for title, up in zip(titles, better, strict=True)
    ]
    return plotly.Figure(
        data=traces,
        layout={
            **_layout(front, f"Front of {first} and {second}", "bars: 95 % of resampled sets" if bars else ""),
            "xaxis": axes[0],
            "yaxis": axes[1],
            "coloraxis": {
                "colorscale": BETWEEN,
                "cmin": 0,
                "cmax": 1,
                "colorbar": {"title": {"text": f"preference for {first}", "side": "right"}, "thickness": 12},
            },
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
        },
    )


def _triangle(plotly: Any, front: "Front") -> Any:
    """The simplex of three names; the menu takes the metric that colours it."""
    a, b, c = front.preferences.double().T.tolist()
    shown = [(f"{metric}/{task}", number) for number, (metric, task) in enumerate(_metrics(front))]
    better = larger_is_better(front.metric_names)
    kept, knee = front.nondominated(), front.knee()
    traces = [
        plotly.Scatterternary(
            a=a,
            b=b,
            c=c,
            mode="markers",
            name=_plain(name),
            visible=number == 0,
            showlegend=False,
            cliponaxis=False,
            marker={
                "size": 13,
                "color": front.metrics[:, number].tolist(),
                "colorscale": BETTER,
                "reversescale": not better[number],
                "line": {"color": MUTED, "width": [1.5 if bool(one) else 0.3 for one in kept]},
                "showscale": True,
                "colorbar": {"title": {"text": _plain(name), "side": "right"}, "thickness": 12, "x": 1.02},
            },
            customdata=front.metrics.tolist(),
            hovertemplate="%{a:.2f} / %{b:.2f} / %{c:.2f}<br>"
            + "<br>".join(f"{_plain(label)} %{{customdata[{column}]:.4g}}" for label, column in shown)
            + "<extra></extra>",
        )
        for name, number in shown
    ]
    traces.append(
        plotly.Scatterternary(
            a=[a[knee]],
            b=[b[knee]],
            c=[c[knee]],
            mode="markers",
            name="knee",
            showlegend=True,
            cliponaxis=False,
            marker={"symbol": "circle-open", "size": 22, "color": KNEE, "line": {"width": 2}},
            hoverinfo="skip",
        )
    )
    buttons = [
        {
            "label": _plain(name),
            "method": "update",
            "args": [{"visible": [number == other for other in range(len(shown))] + [True]}],
        }
        for name, number in shown
    ]
    axes = {
        f"{letter}axis": {
            "title": {"text": _plain(name)},
            "gridcolor": RULE,
            "linecolor": MUTED,
            "tickvals": [0.2, 0.4, 0.6, 0.8],
            "ticks": "outside",
            "ticklen": 9,  # past the points on the edge
        }
        for letter, name in zip("abc", front.names, strict=True)
    }
    return plotly.Figure(
        data=traces,
        layout={
            **_layout(
                front, "Front over " + ", ".join(_plain(name) for name in front.names), "outlined: not dominated"
            ),
            "ternary": {"sum": 1, "bgcolor": "#ffffff", **axes},
            "updatemenus": [{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.1, "yanchor": "top"}],
            "legend": {"orientation": "h", "y": -0.1},
            "margin": {"t": 125},
        },
    )


def _parallel(plotly: Any, front: "Front") -> Any:
    """One axis per share, then one per metric; colours by the first share."""
    axes = [(name, front.preferences[:, number], (0.0, 1.0)) for number, name in enumerate(front.names)]
    if len(front.tasks) <= MOST_AXES:
        values = [(f"{metric}/{task}", front.metrics[:, n]) for n, (metric, task) in enumerate(_metrics(front))]
    else:
        values = [(f"loss/{name}", front.knob_losses()[:, number]) for number, name in enumerate(front.names)]
    axes += [(name, column, _span(column)) for name, column in values if not bool(column.isnan().all())]
    favourite = front.preferences.argmax(1).tolist()
    last = max(len(front.names) - 1, 1)
    trace = plotly.Parcoords(
        dimensions=[
            {
                "label": _plain(name),
                "values": column.tolist(),
                "range": (low, high),
                "tickvals": [low, (low + high) / 2, high],
                "tickformat": ".3g",
            }
            for name, column, (low, high) in axes
        ],
        line={
            "color": favourite,
            "colorscale": BETWEEN,
            "cmin": 0,
            "cmax": last,
            "showscale": True,
            "colorbar": {
                "title": {"text": "preferred most", "side": "right"},
                "thickness": 12,
                "tickvals": list(range(len(front.names))),
                "ticktext": [_plain(name) for name in front.names],
            },
        },
        labelangle=-25,
        rangefont={"color": "rgba(0,0,0,0)"},  # the ends of an axis are ticks already
    )
    layout = _layout(front, f"Front over {len(front.names)} names", "")
    width = max(layout["width"], AXIS * len(axes) + 200)
    return plotly.Figure(
        data=[trace], layout={**layout, "width": width, "margin": {"l": 60, "r": 60, "t": 170, "b": 30}}
    )


def _span(column: Tensor) -> tuple[float, float]:
    """Smallest and largest; of equal values something around them, because an axis needs a length."""
    low, high = float(column.min()), float(column.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _layout(front: "Front", title: str, key: str) -> dict[str, Any]:
    note = f"{len(front)} preferences, {int(front.nondominated().sum())} not dominated"
    note += f"; {key}" if key else ""
    return {
        "title": {"text": f'{title}<br><span style="font-size:12px;color:{MUTED}">{note}</span>', "x": 0.02},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "plot_bgcolor": "#ffffff",
        "paper_bgcolor": "#ffffff",
        "width": 760,
        "height": 560,
    }


def _metrics(front: "Front") -> list[tuple[str, str]]:
    return list(zip(front.metric_names, front.tasks, strict=True))


def _error_bars(front: "Front") -> dict[str, dict[str, Any]]:
    """Distances from the value to the ends, for both axes; none for a front that was read from a file."""
    if front.scores is None:
        return {}
    low, high = front.intervals(draws=DRAWS)
    return {
        axis: {"array": _above(high, front, task), "arrayminus": _above(-low, front, task, -1)}
        for task, axis in enumerate(("error_x", "error_y"))
    }


def _above(end: Tensor, front: "Front", task: int, sign: int = 1) -> list[float]:
    return torch.clamp(end[:, task] - sign * front.metrics[:, task], min=0).tolist()


def _of(bar: dict[str, Any], points: list[int]) -> dict[str, Any]:
    picked = {name: [values[point] for point in points] for name, values in bar.items()}
    return {"type": "data", "symmetric": False, "color": "#aab2bd", "thickness": 1, "width": 0, **picked}


def _plain(text: str) -> str:
    """Text as it is, for plotly, which reads a subset of HTML."""
    return html.escape(text, quote=False)
