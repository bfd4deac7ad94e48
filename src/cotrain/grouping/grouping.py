"""The answer: which networks to train, on which tasks, and which of them serves each task."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias

Status: TypeAlias = Literal["optimal", "time_limit", "heuristic", "given", "random"]


@dataclass(frozen=True)
class Group:
    """One network.

    Attributes:
        trains: The tasks that it is trained on.
        serves: The tasks that it is used for; the rest of `trains` are helpers.
        cost: What it takes of the budget, in units of the budget.
        measured: Whether its gains were measured; else they are predicted, and unverified.
        label: The kind of network, empty for the usual one (see `Candidate`).

    Raises:
        ValueError: If `trains` is empty or repeats a task, or `serves` is not a part of it.
    """

    trains: tuple[str, ...]
    serves: tuple[str, ...]
    cost: float = 1.0
    measured: bool = False
    label: str = ""

    def __post_init__(self) -> None:
        if not self.trains or len(set(self.trains)) < len(self.trains):
            raise ValueError(f"A group trains one or more different tasks. Got {self.trains!r}.")
        if not set(self.serves) <= set(self.trains) or len(set(self.serves)) < len(self.serves):
            raise ValueError(f"A group serves only tasks that it trains, each once. Got {self!r}.")

    @property
    def helpers(self) -> tuple[str, ...]:
        """The tasks that are trained for the sake of the others only."""
        return tuple(task for task in self.trains if task not in self.serves)

    def __str__(self) -> str:
        text = " + ".join(self.serves) or "serves nobody"
        text += f", helped by {' + '.join(self.helpers)}" if self.helpers else ""
        return f"{text} [{self.label}]" if self.label else text


@dataclass(frozen=True)
class Grouping:
    """A set of networks in which every task is served by exactly one.

    Attributes:
        groups: The networks.
        value: The objective, recomputed from the groups; NaN if no gain model has valued them.
        bound: No choice within the budget and the constraints is worth more than this; None if nothing was proven.
        status: "optimal" (proven: `gap` within 1e-6 of the largest worth of a task), "time_limit" (value and bound
            are valid), "heuristic" (the best of `n_candidates` candidates, of a problem too large to list), "given"
            (the groups were chosen elsewhere) or "random".
        solver: What chose the groups.
        seconds: How long that took.
        objective: "total_loss": `value` is the sum of losses saved over training every task alone, in units of the
            losses. "mean_gain": `value` is the (weighted) mean gain, 0.1 = 10 % less loss. "mean_score": the
            same of scores, which rank groups and are no gains. "worth": the total of a function of the groups.
            "density": that of clusters of an affinity. Empty if not valued.
        value_at_mean: `value` without the deduction of `kappa` standard deviations.
        kappa: Standard deviations deducted from every gain.
        budget: The budget given, None if there was none.
        n_candidates: How many candidate networks were compared.
        pool_gap: Bound minus value over the candidates only; equals `gap` unless the status is "heuristic".
        basis: What predictions rest on, in words, where the caller knows; "unverified" is then among them where it is
            true. Empty: nothing is known, and networks that are predicted are called unverified.

    Raises:
        ValueError: If a task is served by two networks or by none.
    """

    groups: tuple[Group, ...]
    value: float = math.nan
    bound: float | None = None
    status: Status = "given"
    solver: str = ""
    seconds: float = 0.0
    objective: str = ""
    value_at_mean: float = math.nan
    kappa: float = 0.0
    budget: float | None = None
    n_candidates: int = 0
    pool_gap: float | None = None
    basis: str = ""
    _server: dict[str, Group] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for group in self.groups:
            for task in group.serves:
                if task in self._server:
                    raise ValueError(f"Task {task!r} is served by two groups. Let exactly one group serve it.")
                self._server[task] = group
        for group in self.groups:
            for task in group.trains:
                if task not in self._server:
                    raise ValueError(f"Task {task!r} is trained but served by no group. Let one group serve it.")

    @property
    def gap(self) -> float | None:
        """`bound - value`, at least 0, in units of the objective; None without a bound."""
        return None if self.bound is None else max(self.bound - self.value, 0.0)

    @property
    def relative_gap(self) -> float | None:
        """`gap / |value|`; None without a bound or at value 0. Read it beside `gap`: values can be near 0."""
        return None if self.gap is None or self.value == 0 else self.gap / abs(self.value)

    @property
    def standing(self) -> str:
        """In words, how much better another choice could be: "proven best", "within 2.1% of the best possible"."""
        if self.status == "optimal":
            return "proven best"
        if self.status in ("given", "random"):
            return f"{self.status}, not chosen for its value"
        if self.gap is None or self.bound is None:
            return f"the best of {self.n_candidates} candidates, without proof"
        words = f"at most {self.gap:.3g} below the best possible"
        if self.value > 0 and self.bound > 0:
            words = f"within {self.gap / self.bound:.1%} of the best possible"
        return words + (" (stopped by the time limit)" if self.status == "time_limit" else "")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task, in the order of the groups that serve them."""
        return tuple(self._server)

    @property
    def n_networks(self) -> int:
        """How many networks are trained."""
        return len(self.groups)

    @property
    def cost(self) -> float:
        """What the networks take of the budget together."""
        return math.fsum(group.cost for group in self.groups)

    def served_by(self, task: str) -> Group:
        """The network that serves a task.

        Raises:
            ValueError: If the task is unknown.
        """
        if task not in self._server:
            raise ValueError(f"Unknown task {task!r}. Known tasks: {', '.join(self.tasks)}.")
        return self._server[task]

    def as_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON; numbers that are not finite become None."""
        record = {name: value for name, value in asdict(self).items() if not name.startswith("_")}
        record["gap"] = self.gap
        return {name: _plain(value) for name, value in record.items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Grouping:
        """The inverse of `as_dict`.

        Raises:
            ValueError: If the record has no groups, or they do not form a grouping.
        """
        if "groups" not in record:
            raise ValueError(f"This is no grouping: it has no 'groups'. It has {', '.join(record) or 'nothing'}.")
        known = {entry.name for entry in fields(cls) if entry.init}
        values = {name: value for name, value in record.items() if name in known}
        values["groups"] = tuple(
            Group(**{**group, "trains": tuple(group["trains"]), "serves": tuple(group["serves"])})
            for group in record["groups"]
        )
        for name in ("value", "value_at_mean"):
            values[name] = math.nan if values.get(name) is None else values[name]
        return cls(**values)

    def to_json(self) -> str:
        """The grouping as strict JSON text."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Grouping:
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))

    def __str__(self) -> str:
        """What is known of the choice; a line per network: who is served, who only helps; what predictions rest on."""
        lines = [f"{number}. {group}" for number, group in enumerate(self.groups, 1)]
        head = f"{_count(self.n_networks, 'network')} for {_count(len(self.tasks), 'task')}"
        if not math.isnan(self.value):
            head += f"; {_WORDS.get(self.objective, 'value')} {self.value:.5g}"
            if self.kappa > 0 and not math.isclose(self.value, self.value_at_mean):
                head += f" ({self.value_at_mean:.5g} without the deduction of {self.kappa:g} s.d.)"
            predicted = sum(not group.measured for group in self.groups)
            if self.objective != "worth":
                only = " only, unverified" if not self.basis else ""
                head += f", {predicted} of the networks predicted{only}" if predicted else ", all measured"
        head += f"; {self.standing}"
        return "\n".join([head, *lines, *([f"Predictions: {self.basis}"] if self.basis else [])])


_WORDS = {
    "total_loss": "total loss saved over training alone",
    "mean_gain": "mean gain over training alone",
    "mean_score": "mean score (which is no gain)",
    "worth": "worth of the groups",
    "density": "density",
}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
