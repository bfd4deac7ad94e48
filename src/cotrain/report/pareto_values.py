"""What the section on a front shows beside its picture: the slider, the tables, the words."""

import math
import shlex
from typing import Any

import numpy as np

from cotrain.report.figure import listed
from cotrain.report.pareto import Choice, FrontTask, Pareto
from cotrain.report.pareto_plots import Picture
from cotrain.report.tables import named_values
from cotrain.report.wording import NOTHING, decimal, significant

__all__ = ["front_values"]

MOST_ROWS, MOST_TASKS = 24, 10
VOLUMES = {
    "front": "The front",
    "equal": "Equal weights",
    "single": "Single tasks",
    "over_equal": "Front − equal weights",
    "over_single": "Front − single tasks",
}


def front_values(front: Pareto, picture: Picture) -> dict[str, Any]:
    """Everything the section's template shows."""
    shown = front.tasks[:MOST_TASKS]
    order = sorted(range(len(front.preferences)), key=lambda point: bool(front.dominated[point]))[:MOST_ROWS]
    return {
        "data": front.data,
        "code": front.verdict["code"],
        "headline": front.verdict["headline"],
        "sentences": front.verdict["sentences"],
        "left_out": front.left_out,
        "facts": _facts(front),
        "names": front.names,
        "tasks": [
            {
                "name": task.name,
                "metric": task.metric,
                "higher": task.higher,
                "equal": _score(task.equal),
                "single": _score(task.single),
            }
            for task in front.tasks
        ],
        "start": _start(front),
        "slider": _slider(front, picture),
        "picture_says": picture.says,
        "picture_caption": picture.caption,
        "columns": [*front.names, *(f"{task.name}, {task.metric} {'↑' if task.higher else '↓'}" for task in shown), ""],
        "number_columns": tuple(range(1, len(front.names) + len(shown))),
        "rows": [*(_row(front, point, shown) for point in sorted(order)), *_control_rows(front, shown)],
        "cut": len(front.preferences) > MOST_ROWS,
        "rows_shown": len(order),
        "n_points": len(front.preferences),
        "volumes": _volumes(front),
        "reference": ", ".join(f"{task} {significant(value)}" for task, value in front.reference.items()),
        "draws": f"{front.draws:,}",
        "choice": _choice(front, front.choice) if front.choice else None,
        "configuration": named_values(front.configuration),
    }


def _facts(front: Pareto) -> list[tuple[str, str]]:
    factor = float(front.training["parameters"]) / float(front.training["parameters_of_one_network"])
    return [
        ("knobs", str(len(front.names))),
        ("tasks", str(len(front.tasks))),
        *((f"{part} samples", f"{count:,}") for part, count in front.samples.items()),
        ("form", str(front.training["form"])),
        ("parameters, one network = 1", f"{factor:.2f}"),
        ("best epoch", str(int(front.training["best_epoch"]) + 1)),
    ]


def _start(front: Pareto) -> list[int]:
    """Where the sliders stand: at what was chosen, or at the best point against equal weights; per cent."""
    shares = front.preferences[front.best]
    if front.choice:
        shares = np.array([front.choice.preference[name] for name in front.names])
    return [round(100 * float(share)) for share in shares]


def _slider(front: Pareto, picture: Picture) -> dict[str, Any]:
    """What the script needs: no number that is not in front.json."""
    return {
        "folder": shlex.quote(front.folder),
        "names": front.names,
        "preferences": [listed(point) for point in front.preferences],
        "tasks": [
            {
                "name": task.name,
                "metric": _exact(task.values),
                "low": _exact(task.low),
                "high": _exact(task.high),
                "equal": _exact([task.equal])[0],
                "single": _exact([task.single])[0],
                "worst": _exact([task.ends[0]])[0],
                "best": _exact([task.ends[1]])[0],
            }
            for task in front.tasks
        ],
        "picture": {"kind": picture.kind, "marker": picture.marker},
    }


def _exact(values: Any) -> list[float | None]:
    """Six significant digits: the slider writes four decimals."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in np.asarray(values).tolist()]


def _row(front: Pareto, point: int, tasks: tuple[FrontTask, ...]) -> tuple[str, ...]:
    return (
        *(decimal(float(share), 2) for share in front.preferences[point]),
        *(_with_interval(float(t.values[point]), float(t.low[point]), float(t.high[point])) for t in tasks),
        "dominated" if front.dominated[point] else "",
    )


def _control_rows(front: Pareto, tasks: tuple[FrontTask, ...]) -> list[tuple[str, ...]]:
    empty = ("",) * (len(front.names) - 1)
    return [
        ("equal weights", *empty, *(_score(task.equal) for task in tasks), "control"),
        ("single tasks", *empty, *(_score(task.single) for task in tasks), "control"),
    ]


def _volumes(front: Pareto) -> list[tuple[str, str, str]]:
    if front.hypervolume is None:
        return []
    valid, test = front.hypervolume["valid"], front.hypervolume["test"]
    return [(title, _with_interval(*valid[what], 5), _with_interval(*test[what], 5)) for what, title in VOLUMES.items()]


def _choice(front: Pareto, choice: Choice) -> dict[str, Any]:
    return {
        "sentence": choice.sentence,
        "rows": [
            (
                task.name,
                f"{task.metric} {'↑' if task.higher else '↓'}",
                _score(choice.valid[task.name][0]),
                _with_interval(*choice.test[task.name]),
            )
            for task in front.tasks
        ],
    }


def _score(value: float, digits: int = 4) -> str:
    return decimal(value, digits) if abs(value) < 100 else significant(value, digits)


def _with_interval(value: float, low: float, high: float, digits: int = 4) -> str:
    if not math.isfinite(value):
        return NOTHING
    interval = f" [{_score(low, digits)}, {_score(high, digits)}]" if math.isfinite(low) else ""
    return _score(value, digits) + interval
