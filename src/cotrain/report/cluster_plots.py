"""Pictures of clusters: memberships with their certainty, the tree of tasks, and other numbers of clusters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import dendrogram

from cotrain.grouping import Dendrogram
from cotrain.report.clusters import Clusters
from cotrain.report.contents import Study
from cotrain.report.figure import Figure, axis, label_room, limits, listed
from cotrain.report.palette import WRITTEN_ON
from cotrain.report.wording import label, plain

MAX_TASKS = 120
"""Of more tasks only those are drawn that are divided most between clusters."""

MAX_LEAVES = 60
"""Leaves of the tree: what merges below them is drawn as one leaf."""

MAX_WRITTEN = 16
"""Clusters up to which a membership is written into its cell."""

ROW = 20
"""Pixels for one task."""

NARROWEST_CELL, WIDEST_CELL = 40, 92
"""Pixels of a cell with a number in it."""


def membership_figure(study: Study, clusters: Clusters) -> Figure:
    """Memberships of the tasks that are in a cluster, and the certainty of each in a column of its own."""
    order = shown_members(study, clusters)
    names = [study.names[t] for t in order]
    ticks = [label(name) for name in names]
    numbers = [str(k + 1) for k in range(clusters.n_clusters)]
    columns = clusters.n_clusters + 1.5
    room = label_room(names)
    size = 11 if len(order) <= 60 else 9
    return Figure(
        data=[
            _cells(names, numbers, clusters.memberships[order], "in cluster %{x}: %{z}", size),
            {
                **_cells(names, ["certainty"], clusters.certainty[order, None], "certainty %{z}", size),
                "xaxis": "x2",
            },
        ],
        layout={
            "xaxis": {
                **axis("cluster", side="top", type="category", showgrid=False, ticks=""),
                "domain": [0.0, clusters.n_clusters / columns],
            },
            "xaxis2": {
                **axis("", side="top", type="category", showgrid=False, ticks=""),
                "domain": [(clusters.n_clusters + 0.5) / columns, 1.0],
                "anchor": "y",
            },
            "yaxis": axis(
                "",
                type="category",
                range=[len(order) - 0.5, -0.5],
                showgrid=False,
                ticks="",
                ticklabelstandoff=3,
                tickmode="array",
                tickvals=list(range(len(order))),
                ticktext=ticks,
                tickfont={"size": size},
            ),
            "shapes": [_border(place) for place in _borders(clusters.labels[order])],
            "margin": {"l": room, "r": 6, "t": 52, "b": 6},
        },
        height=58 + (ROW if len(order) <= 60 else 13) * len(order),
        min_width=room + 6 + round(NARROWEST_CELL * columns),
        max_width=room + 6 + round(max(WIDEST_CELL * columns, 240)),
    )


def shown_members(study: Study, clusters: Clusters) -> list[int]:
    """Positions of the tasks whose memberships are drawn, those of one cluster side by side."""
    members = [t for t in study.display_order if clusters.labels[t] >= 0]
    largest = clusters.memberships.max(axis=1)
    divided = set(sorted(members, key=lambda t: (largest[t], t))[:MAX_TASKS])
    return [t for t in members if t in divided]


def tree_figure(clusters: Clusters, names: Sequence[str]) -> Figure | None:
    """The tree from the tasks on the left to one cluster on the right, and where it is cut for K clusters."""
    tree = clusters.tree
    if tree is None:
        return None
    chosen = dict(zip(names, (clusters.labels + 1).tolist(), strict=True))

    def leaf(node: int) -> str:
        if node < len(tree.tasks):
            return f"{tree.tasks[node]}\0{chosen[tree.tasks[node]]}"
        return f"{tree.linkage[node - len(tree.tasks), 3]:.0f} tasks"

    drawn = dendrogram(tree.linkage, no_plot=True, truncate_mode="lastp", p=MAX_LEAVES, leaf_label_func=leaf)
    leaves = [text.partition("\0") for text in drawn["ivl"]]
    heights: list[float | None] = [h for line in drawn["dcoord"] for h in (*line, None)]
    places: list[float | None] = [p for line in drawn["icoord"] for p in (*line, None)]
    cut = cut_height(tree, clusters.n_clusters)
    return Figure(
        data=[
            {
                "type": "scatter",
                "mode": "lines",
                "x": [None if h is None else float(f"{h:.4g}") for h in heights],
                "y": places,
                "line": {"color": "@ink", "width": 1.2},
                "hoverinfo": "skip",
            }
        ],
        layout={
            "xaxis": axis("distance at which tasks merge", range=[0.0, limits([*tree.heights, cut])[1]], nticks=6),
            "yaxis": axis(
                "",
                range=[10 * len(leaves), 0],
                showgrid=False,
                zeroline=False,
                ticks="",
                ticklabelstandoff=3,
                tickmode="array",
                tickvals=[10 * place + 5 for place in range(len(leaves))],
                ticktext=[f"{label(name)} · {number}" if number else name for name, _, number in leaves],
                tickfont={"size": 11},
            ),
            "shapes": [_upright(cut)],
            "showlegend": False,
            "margin": {"l": label_room([name for name, _, _ in leaves]) + 26, "r": 12, "t": 8, "b": 48},
        },
        height=56 + 18 * len(leaves),
        max_width=560,
    )


def cut_height(tree: Dendrogram, n_clusters: int) -> float:
    """A distance between the last merge that leaves K clusters and the first that would leave fewer."""
    heights: list[float] = [0.0, *tree.heights.tolist()]
    last = max(len(tree.tasks) - n_clusters, 0)
    return (heights[last] + heights[last + 1]) / 2 if last + 1 < len(heights) else heights[-1] * 1.05


def size_figure(clusters: Clusters) -> Figure | None:
    """Stability between runs and silhouette over the number of clusters; None where no number was tried."""
    if not clusters.sizes:
        return None
    counts = [size.n_clusters for size in clusters.sizes]
    kinds = (
        ("stability between runs (ARI)", [size.stability for size in clusters.sizes], "@grouped", "circle", "solid"),
        ("silhouette", [size.silhouette for size in clusters.sizes], "@all-in-one", "square", "dash"),
    )
    shown = [kind for kind in kinds if np.isfinite(kind[1]).any()]
    return Figure(
        data=[
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": counts,
                "y": listed(values),
                "line": {"color": colour, "width": 1.5, "dash": dash},
                "marker": {"symbol": symbol, "size": 9, "color": colour},
                "hovertemplate": f"%{{x}} clusters<br>{name} %{{y}}<extra></extra>",
            }
            for name, values, colour, symbol, dash in shown
        ],
        layout={
            "xaxis": axis(
                "number of clusters", tickmode="array", tickvals=counts, range=limits([*counts, clusters.n_clusters])
            ),
            "yaxis": axis("", range=limits([v for _, values, *_ in shown for v in values], include=(0.0, 1.0))),
            "shapes": [_upright(clusters.n_clusters)],
            "showlegend": True,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "margin": {"l": 40, "r": 12, "t": 48, "b": 48},
        },
        height=300,
        max_width=560,
    )


def _cells(rows: Sequence[str], columns: Sequence[str], values: Any, says: str, size: int) -> dict[str, Any]:
    written = {"texttemplate": "%{z:.2f}", "textfont": {"size": size, "color": "@ink"}}
    return {
        "type": "heatmap",
        "x": list(columns),
        "y": [plain(name) for name in rows],
        "z": listed(values),
        "xgap": 1,
        "ygap": 1,
        "colorscale": WRITTEN_ON,
        "zmin": 0.0,
        "zmax": 1.0,
        "showscale": False,
        "hovertemplate": f"%{{y}} {says}<extra></extra>",
        **(written if len(columns) <= MAX_WRITTEN else {}),
    }


def _borders(labels: Any) -> list[int]:
    """The rows before which another cluster begins."""
    return (np.flatnonzero(np.diff(labels)) + 1).tolist()


def _border(place: int) -> dict[str, Any]:
    ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": place - 0.5, "y1": place - 0.5}
    return {"type": "line", **ends, "line": {"color": "@ink", "width": 1.5}}


def _upright(place: float) -> dict[str, Any]:
    ends = {"yref": "paper", "y0": 0, "y1": 1, "x0": place, "x1": place}
    return {"type": "line", **ends, "line": {"color": "@ink", "width": 1.5, "dash": "dot"}, "layer": "below"}
