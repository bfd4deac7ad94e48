"""What a trained front has come to: every point on validation and on test, beside the controls, and in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cotrain.pareto import Front
from cotrain.pareto.bootstrap import mean_interval, resampled_means
from cotrain.pareto.front_order import corners_in_order, order_violations
from cotrain.pareto.hypervolume import MOST_METRICS, hypervolume, nondominated
from cotrain.pareto.sample_scores import SampleScores, larger_is_better
from cotrain.study.front_controls import EQUAL
from cotrain.study.front_setting import FrontSetting
from cotrain.study.front_words import front_verdict

__all__ = ["DRAWS", "Looked", "described", "front_results", "plain"]

DRAWS = 1000
"""Of the bootstrap: enough for two steady digits of an interval's ends."""
LEVEL = 0.95
ROUNDING = 1e-5
"""Relative: differences below are those of sums in float32."""


@dataclass(frozen=True)
class Looked:
    """The front and its controls on one split.

    Args:
        front: K points of the manifold.
        controls: Equal weights, then every task alone.
    """

    front: Front
    controls: Front


def front_results(setting: FrontSetting, valid: Looked, test: Looked, training: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that terminal and report show, as JSON values.

    Points are judged and compared on validation samples; test samples only say what came of it.

    Args:
        setting: Of the front.
        valid: On the validation samples.
        test: On the test samples.
        training: What is to be recorded of the training.
    """
    tasks = setting.base.data.tasks
    up = larger_is_better(valid.front.metric_names)
    reference = reference_point(setting)
    splits = {"valid": valid, "test": test}
    values: dict[str, Any] = {
        "data": setting.base.data.name,
        "samples": {part: len(split) for part, split in setting.base.data.splits.items()},
        "names": list(valid.front.names),
        "members": {name: _members(setting, k) for k, name in enumerate(valid.front.names)},
        "tasks": [
            {"name": name, "metric": metric, "better": "higher" if higher else "lower"}
            for name, metric, higher in zip(tasks.names, valid.front.metric_names, up, strict=True)
        ],
        "left_out": list(setting.config.left_out),
        "training": dict(training),
        "points": _points(valid.front, test.front, up),
        "controls": {
            "equal": {part: _control(split.controls, [EQUAL] * len(tasks)) for part, split in splits.items()},
            "single": {
                part: _control(split.controls, [1 + t for t in range(len(tasks))]) for part, split in splits.items()
            },
        },
        "hypervolume": _hypervolumes(splits, reference, up) if len(tasks) <= MOST_METRICS else None,
        "reference": dict(zip(tasks.names, reference.tolist(), strict=True)),
        "order": {part: _order(split.front) for part, split in splits.items()},
        "against_equal": _against_equal(valid, test),
        "draws": DRAWS,
        "level": LEVEL,
    }
    return {**values, "verdict": front_verdict(values)}


def reference_point(setting: FrontSetting) -> Tensor:
    """[T], from where hypervolume is measured: accuracy 0, or the mean absolute error of a constant."""
    data = setting.base.data
    worst = []
    for task in data.tasks:
        target = data.tasks.target_of(task.name, data.train.targets)
        error = (target[~torch.isnan(target)].double() - (task.location or 0.0)).abs().mean()
        worst.append(float(error) if task.kind == "regression" else 0.0)
    return torch.tensor(worst, dtype=torch.float64)


def _members(setting: FrontSetting, knob: int) -> list[str]:
    shares = setting.knobs.shares[knob]
    return [name for name, share in zip(setting.base.data.tasks.names, shares.tolist(), strict=True) if share > 0]


def _points(valid: Front, test: Front, up: Sequence[bool]) -> list[dict[str, Any]]:
    """One entry per preference; a point is dominated if another is better on validation."""
    efficient = nondominated(valid.metrics, maximize=up).tolist()
    on_valid, on_test = described(valid), described(test)
    return [
        {
            "preference": dict(zip(valid.names, [round(value, 6) for value in point], strict=True)),
            "dominated": not efficient[k],
            "valid": on_valid[k],
            "test": on_test[k],
        }
        for k, point in enumerate(valid.preferences.tolist())
    ]


def described(front: Front) -> list[dict[str, dict[str, float | None]]]:
    """Every task's metric with its interval, and its loss, at every point."""
    scores = _scores(front)
    low, high = mean_interval(scores.metrics, scores.labelled, draws=DRAWS, level=LEVEL, seed=0)
    return [
        {
            task: {
                "metric": plain(front.metrics[k, t]),
                "low": plain(low[k, t]),
                "high": plain(high[k, t]),
                "loss": plain(front.losses[k, t]),
            }
            for t, task in enumerate(front.tasks)
        }
        for k in range(len(front.preferences))
    ]


def _control(controls: Front, rows: Sequence[int]) -> dict[str, dict[str, float | None]]:
    """Every task by the network of its row."""
    everything = described(controls)
    return {task: everything[row][task] for task, row in zip(controls.tasks, rows, strict=True)}


def _hypervolumes(splits: Mapping[str, Looked], reference: Tensor, up: Sequence[bool]) -> dict[str, Any]:
    """On both splits: of the front, of equal weights, of single tasks, and what the front has more than these."""
    return {part: _hypervolume(split, reference, up) for part, split in splits.items()}


def _hypervolume(split: Looked, reference: Tensor, up: Sequence[bool]) -> dict[str, dict[str, float | None]]:
    front, controls = _scores(split.front), _scores(split.controls)
    together = torch.cat([front.metrics, controls.metrics])
    draws = torch.cat(list(resampled_means(together, front.labelled, draws=DRAWS, seed=0)))
    # The value itself stands first, then every draw: one row of the table each.
    means = torch.cat([torch.cat([split.front.metrics, split.controls.metrics]).unsqueeze(0), draws])
    points, equal, alone = means.tensor_split([len(front.metrics), len(front.metrics) + 1], dim=1)
    known = means.isfinite().all(2).all(1).tolist()
    volumes = {
        "front": torch.tensor(
            [
                hypervolume(row, reference, maximize=up) if finite else torch.nan
                for row, finite in zip(points, known, strict=True)
            ],
            dtype=torch.float64,
        ),
        "equal": _box(equal[:, 0], reference, up),
        "single": _box(alone.diagonal(dim1=1, dim2=2), reference, up),
    }
    volumes |= {f"over_{name}": _difference(volumes["front"], volumes[name]) for name in ("equal", "single")}
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    return {
        name: dict(zip(("value", "low", "high"), map(plain, (rows[0], *rows[1:].nanquantile(ends))), strict=True))
        for name, rows in volumes.items()
    }


def _difference(first: Tensor, second: Tensor) -> Tensor:
    """[n] differences, with 0 where there is only what rounding of the samples' scores leaves."""
    apart = first - second
    return torch.where(apart.abs() > ROUNDING * torch.maximum(first.abs(), second.abs()), apart, 0.0)


def _box(points: Tensor, reference: Tensor, up: Sequence[bool]) -> Tensor:
    """[n] hypervolumes of single points [n, T]."""
    return torch.where(torch.tensor(up), points - reference, reference - points).clamp(min=0).prod(1)


def _order(front: Front) -> dict[str, Any]:
    violations = order_violations(front)
    return {
        "count": violations.count,
        "total": violations.total,
        "corners": {name: corner.of_corners for name, corner in corners_in_order(front).items()},
    }


def _against_equal(valid: Looked, test: Looked) -> dict[str, Any]:
    """The point that is best against equal weights on validation, and what it is on test.

    Best: its least gain over the tasks, 1 - loss / loss of equal weights, is the largest.
    """
    equal = valid.controls.losses[EQUAL]
    gains = 1 - valid.front.losses / equal.clamp(min=torch.finfo(equal.dtype).tiny)
    point = int(gains.nan_to_num(nan=torch.inf).min(1).values.argmax())
    front, controls = _scores(test.front), _scores(test.controls)
    differences = front.metrics[point : point + 1] - controls.metrics[EQUAL : EQUAL + 1]
    low, high = mean_interval(differences, front.labelled, draws=DRAWS, level=LEVEL, seed=0)
    # An end at 0 must not become a finding by the rounding of a sum.
    least = ROUNDING * torch.maximum(low.abs(), high.abs())
    low, high = (torch.where(end.abs() > least, end, 0.0) for end in (low, high))
    means = test.front.metrics[point] - test.controls.metrics[EQUAL]
    return {
        "point": point,
        "least_gain": plain(gains[point].nan_to_num(nan=torch.inf).min()),
        "test": {
            task: {"difference": plain(means[t]), "low": plain(low[0, t]), "high": plain(high[0, t])}
            for t, task in enumerate(test.front.tasks)
        },
    }


def _scores(front: Front) -> SampleScores:
    if front.scores is None:
        raise ValueError("Intervals need the scores of every sample, which a front that was read from a file lacks.")
    return front.scores


def plain(value: Tensor | float) -> float | None:
    """A number as JSON has it: None where it is not finite."""
    number = float(value)
    return number if number - number == 0 else None
