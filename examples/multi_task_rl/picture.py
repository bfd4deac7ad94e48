"""The learning curves as a picture: a panel per task, a line per aggregation, a band over the seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from training import Curve

from cotrain.files import write_atomically

__all__ = ["draw_curves"]

# Apart for every common colour-vision deficiency, and told apart in grey by their dashes.
STYLES = (("#3c444f", "-"), ("#c4570c", "--"), ("#0b63b0", "-."), ("#7a8a00", ":"))
COLUMNS = 3


def draw_curves(curves: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Draw the mean over seeds of every aggregation, task by task and over all tasks, as a PNG file.

    Args:
        curves: Name of an aggregation -> a curve per seed; only steps at which all were scored are drawn.
        path: The file.
    """
    names = next(iter(curves.values()))[0].names
    shared = min(len(run.steps) for runs in curves.values() for run in runs)
    panels = ["mean of all tasks", *names]
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.1 * rows + 0.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flatten()
    for panel, (axis, title) in enumerate(zip(axes, panels, strict=False)):
        for number, (name, runs) in enumerate(curves.items()):
            colour, dashes = STYLES[number % len(STYLES)]
            rewards = np.array([run.rewards[:shared] for run in runs])  # [seeds, K, T]
            shown = rewards.mean(2) if panel == 0 else rewards[:, :, panel - 1]
            steps = runs[0].steps[:shared]
            axis.fill_between(steps, shown.min(0), shown.max(0), color=colour, alpha=0.15, linewidth=0)
            axis.plot(steps, shown.mean(0), color=colour, linestyle=dashes, linewidth=1.6, label=name)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("actions per environment", fontsize=9)
    figure.supylabel("mean reward per step", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(curves), fontsize=9)
    write_atomically(path, lambda part: figure.savefig(part, format="png", metadata={"Software": None}))
