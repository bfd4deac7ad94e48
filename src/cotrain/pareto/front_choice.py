"""Which preference to use: one thing as good as can be while others stay within bounds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from cotrain.errors import UnknownNameError
from cotrain.metrics import SMALLER_IS_BETTER
from cotrain.pareto.front_order import neighbours

if TYPE_CHECKING:
    from cotrain.pareto.front import Front

__all__ = ["FrontChoice", "choose"]

SEARCHED = 10_001
"""Preferences between two corners, or between two neighbours, at which a curve is looked at."""

SLACK = 1e-9
"""What rounding may add to a bound."""

BOUND = re.compile(r"\s*(>=|<=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True, eq=False)
class FrontChoice:
    """A preference and what it promises on the samples that the front was evaluated on.

    Args:
        preference: [G].
        as_dict: The same by name.
        losses: Expected loss of each task.
        metrics: Expected metric of each task.
        metric_names: What each task's metric is.
        feasible: Whether all bounds are kept.
        violation: By how much each missed bound is missed, in its own units; empty if feasible.
        method: "curve" (two names), "refined" (between two neighbouring points) or "point" (one of the front's).
        sentence: All this in words.
    """

    preference: Tensor
    as_dict: Mapping[str, float]
    losses: Mapping[str, float]
    metrics: Mapping[str, float]
    metric_names: Mapping[str, str]
    feasible: bool
    violation: Mapping[str, float]
    method: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class _Bound:
    """Values of a column must be at least (sign 1) or at most (sign -1) a limit."""

    column: str
    sign: float
    limit: float

    def missed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(0.0, self.sign * (self.limit - values) - SLACK)


@dataclass(frozen=True)
class _Wish:
    """What is wanted: the column to make small (sign 1) or large (sign -1), and the bounds."""

    column: str
    sign: float
    bounds: tuple[_Bound, ...]

    def best(self, values: Mapping[str, NDArray[np.float64]], ranges: Mapping[str, float]) -> int:
        """The index of the best of many candidates: least missed, then best, then farthest within the bounds."""
        missed = sum((bound.missed(values[bound.column]) / ranges[bound.column] for bound in self.bounds), np.zeros(1))
        missed = np.broadcast_to(missed, values[self.column].shape)
        cost = self.sign * values[self.column] / ranges[self.column]
        room = sum((b.sign * values[b.column] / ranges[b.column] for b in self.bounds), np.zeros(1))
        room = np.broadcast_to(room, missed.shape)
        least = np.flatnonzero(missed <= missed.min() + SLACK)
        cheapest = least[cost[least] <= cost[least].min() + SLACK]
        return int(cheapest[room[cheapest].argmax()])


def choose(front: "Front", *, minimize: str | None, maximize: str | None, subject_to: Mapping[str, str]) -> FrontChoice:
    """See `Front.choose`."""
    wish = _wish(front, minimize, maximize, subject_to)
    columns = {name: values.numpy() for name, values in front.columns().items()}
    for name in (wish.column, *(bound.column for bound in wish.bounds)):
        if not np.isfinite(columns[name]).all():
            raise ValueError(f"{name!r} is not known at every point: its task has no labels, or a loss is not finite.")
    known = {name: values for name, values in columns.items() if np.isfinite(values).all()}
    ranges = {name: float(np.ptp(values)) or 1.0 for name, values in known.items()}
    if len(front.names) == 2 and len(front) > 2:
        preference, values, method = _on_curve(front, known, wish, ranges)
    else:
        preference, values, method = _at_point(front, known, wish, ranges)
    return _choice(front, wish, preference, values, method)


def _on_curve(
    front: "Front", columns: Mapping[str, NDArray[np.float64]], wish: _Wish, ranges: Mapping[str, float]
) -> tuple[Tensor, dict[str, float], str]:
    """Search along the line between two corners, on a monotone curve through every column."""
    share = front.preferences[:, 0].double().numpy()
    places = np.linspace(share.min(), share.max(), SEARCHED)
    curves = {name: _monotone(share, values, places) for name, values in columns.items()}
    at = wish.best(curves, ranges)
    preference = torch.tensor([places[at], 1 - places[at]], dtype=torch.float64).to(front.preferences)
    return preference, {name: float(curve[at]) for name, curve in curves.items()}, "curve"


def _monotone(
    share: NDArray[np.float64], values: NDArray[np.float64], places: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The rising or falling curve nearest to the values (isotonic regression), without kinks between them.

    Both directions are tried, so that a front that runs the wrong way is followed as it is.
    """
    from sklearn.isotonic import IsotonicRegression  # seconds to load, which nobody else need wait for

    fits = [IsotonicRegression(increasing=rising).fit(share, values).predict(share) for rising in (True, False)]
    fit = min(fits, key=lambda fitted: float(((fitted - values) ** 2).sum()))
    at, first = np.unique(share, return_index=True)
    if len(at) == 1:
        return np.full_like(places, fit[0])
    smooth: NDArray[np.float64] = PchipInterpolator(at, fit[first])(places)
    return smooth


def _at_point(
    front: "Front", columns: Mapping[str, NDArray[np.float64]], wish: _Wish, ranges: Mapping[str, float]
) -> tuple[Tensor, dict[str, float], str]:
    """The best point, or better, a place on a step from it to a neighbour on which all goes as the shares say."""
    best = wish.best(columns, ranges)
    candidates = [(front.preferences[best], {name: float(values[best]) for name, values in columns.items()})]
    for pair in neighbours(front.preferences):
        if best not in pair:
            continue
        other = pair[0] if pair[1] == best else pair[1]
        if not _in_order(front, best, other):
            continue
        part = np.linspace(0.0, 1.0, SEARCHED)
        between = {name: values[best] + part * (values[other] - values[best]) for name, values in columns.items()}
        at = wish.best(between, ranges)
        if 0 < at < SEARCHED - 1:
            place = torch.lerp(front.preferences[best], front.preferences[other], float(part[at]))
            candidates.append((place, {name: float(values[at]) for name, values in between.items()}))
    table = {name: np.array([values[name] for _, values in candidates]) for name in columns}
    chosen = wish.best(table, ranges)
    return *candidates[chosen], "refined" if chosen else "point"


def _in_order(front: "Front", start: int, end: int) -> bool:
    """Every loss falls where its share rises, and rises where it falls: the step is more than noise."""
    change = (front.preferences[end] - front.preferences[start]).double()
    rise = front.knob_losses()[end] - front.knob_losses()[start]
    return bool((change * rise <= 0).all())


def _choice(front: "Front", wish: _Wish, preference: Tensor, values: Mapping[str, float], method: str) -> FrontChoice:
    violation = {}
    for bound in wish.bounds:
        missed = float(bound.missed(np.array(values[bound.column])))
        if missed > 0:
            violation[f"{bound.column} {'>=' if bound.sign > 0 else '<='} {bound.limit:g}"] = missed
    missing = float("nan")
    metric_names = dict(zip(front.tasks, front.metric_names, strict=True))
    metrics = {task: values.get(f"{metric}/{task}", missing) for task, metric in metric_names.items()}
    losses = {task: values.get(f"loss/{task}", missing) for task in front.tasks}
    as_dict = {name: float(share) for name, share in zip(front.names, preference, strict=True)}
    return FrontChoice(
        preference, as_dict, losses, metrics, metric_names, not violation, violation, method,
        _sentence(as_dict, wish, values, violation, method),
    )  # fmt: skip


HOW = {
    "curve": "between the evaluated preferences, on a monotone curve through them",
    "refined": "between two evaluated preferences, on a straight line",
    "point": "one of the evaluated preferences",
}


def _sentence(
    as_dict: Mapping[str, float],
    wish: _Wish,
    values: Mapping[str, float],
    violation: Mapping[str, float],
    method: str,
) -> str:
    preference = ", ".join(f"{name} {share:.3f}" for name, share in as_dict.items())
    expected = dict.fromkeys([wish.column, *(bound.column for bound in wish.bounds)])
    promised = ", ".join(f"{name} {values[name]:.4g}" for name in expected)
    text = f"Preference {preference} ({HOW[method]}): expected {promised}."
    if violation:
        missed = ", ".join(f"{name} by {amount:.3g}" for name, amount in violation.items())
        text = f"No preference keeps every bound; this one misses least: {missed}. {text}"
    return text


def _wish(front: "Front", minimize: str | None, maximize: str | None, subject_to: Mapping[str, str]) -> _Wish:
    if (minimize is None) == (maximize is None):
        raise ValueError(
            "Give either minimize= or maximize=, for example choose(minimize='loss/income',"
            f" subject_to={{'age': '>= 0.82'}}). Got {'both' if minimize is not None else 'neither'}."
        )
    if minimize is not None:
        column = _column(front, minimize, bare="loss")
        if column.split("/", 1)[0] not in SMALLER_IS_BETTER:
            raise ValueError(f"minimize={minimize!r} would make {column} as small as possible. Write maximize=.")
    else:
        assert maximize is not None
        column = _column(front, maximize, bare="metric")
        if column.split("/", 1)[0] in SMALLER_IS_BETTER:
            raise ValueError(f"maximize={maximize!r} would make {column} as large as possible. Write minimize=.")
    bounds = tuple(_bound(front, name, bound) for name, bound in subject_to.items())
    return _Wish(column, 1.0 if minimize is not None else -1.0, bounds)


def _bound(front: "Front", name: str, bound: object) -> _Bound:
    found = BOUND.fullmatch(bound) if isinstance(bound, str) else None
    if found is None:
        raise ValueError(
            f"The bound of {name!r} must be a text such as '>= 0.82' or '<= 0.3', which says the direction."
            f" Got {bound!r}."
        )
    return _Bound(_column(front, name, bare="metric"), 1.0 if found[1] == ">=" else -1.0, float(found[2]))


def _column(front: "Front", name: str, *, bare: str) -> str:
    """The column that is meant: "loss/TASK", "accuracy/TASK", "mae/TASK", "metric/TASK", or a bare task."""
    metric_names = dict(zip(front.tasks, front.metric_names, strict=True))
    kind, slash, task = name.partition("/")
    if name in metric_names:
        kind, task = bare, name
    elif not slash or task not in metric_names:
        raise UnknownNameError(
            f"There is no {name!r}. Name a task of {list(front.tasks)}, alone or as 'loss/TASK' or 'metric/TASK'."
        )
    kind = metric_names[task] if kind == "metric" else kind
    if kind not in ("loss", metric_names[task]):
        raise UnknownNameError(
            f"There is no {name!r}. Of task {task!r} there are 'loss/{task}' and '{metric_names[task]}/{task}'."
        )
    return f"{kind}/{task}"
