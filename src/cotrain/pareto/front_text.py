"""A front as lines of text for a terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cotrain.pareto.front import Front

__all__ = ["front_text"]

MOST_ROWS = 21
MOST_COLUMNS = 8
"""A terminal holds no more than that; the rest is counted."""

WIDEST = 14


def front_text(front: "Front") -> str:
    """A head line, one line per preference (* not dominated, K the knee), and whether the front is in order."""
    kept = front.nondominated()
    knee = front.knee()
    samples = "" if front.scores is None else f" on {len(front.scores.labelled):,} samples"
    head = f"Front of {len(front)} preferences over {', '.join(front.names)}{samples}: {int(kept.sum())} not dominated."
    tasks = list(range(len(front.tasks)))[:MOST_COLUMNS]
    names = list(front.names)[:MOST_COLUMNS]
    titles = [*names, *(f"{front.metric_names[task]} {front.tasks[task]}" for task in tasks)]
    titles += [f"loss {front.tasks[task]}" for task in tasks if front.metric_names[task] != "loss"]
    titles = [title if len(title) <= WIDEST else title[: WIDEST - 1] + "…" for title in titles]
    widths = [max(len(title), 7) for title in titles]
    lines = [head, "   " + " ".join(title.rjust(width) for title, width in zip(titles, widths, strict=True))]
    for row in range(min(len(front), MOST_ROWS)):
        values = [f"{float(front.preferences[row, number]):.2f}" for number in range(len(names))]
        values += [_number(float(front.metrics[row, task])) for task in tasks]
        values += [_number(float(front.losses[row, task])) for task in tasks if front.metric_names[task] != "loss"]
        mark = "K" if row == knee else "*" if bool(kept[row]) else " "
        lines.append(f" {mark} " + " ".join(v.rjust(width) for v, width in zip(values, widths, strict=True)))
    if len(front) > MOST_ROWS:
        lines.append(f"   and {len(front) - MOST_ROWS} more preferences")
    if len(front.tasks) > MOST_COLUMNS:
        lines.append(f"   and {len(front.tasks) - MOST_COLUMNS} more tasks")
    lines.append("   * not dominated, K the knee")
    return "\n".join([*lines, _order(front)])


def _order(front: "Front") -> str:
    if front.is_collapsed():
        return "Collapsed: every preference gives the same losses, so this model holds no trade-off."
    violations = front.order_violations()
    wrong = [name for name, order in front.corners_in_order().items() if not order.of_corners]
    corners = "every corner is in order" if not wrong else f"out of order at the corner of {', '.join(wrong)}"
    return f"{violations.count} of {violations.total} steps run the wrong way; {corners}."


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}" if abs(value) < 100 else f"{value:.5g}"
