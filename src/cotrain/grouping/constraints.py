"""What a selection of groups must respect besides its budget: resources, sizes, who may train with whom, floors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import inf, isfinite
from numbers import Real

from cotrain.grouping.costs import Costs
from cotrain.grouping.gains import Groups, by_name, group_name

__all__ = ["Constraints", "Resource"]


@dataclass(frozen=True)
class Resource:
    """A limit on what the chosen networks take together: parameters, FLOPs, latency, memory, networks.

    Attributes:
        name: What it is, for messages and for `Candidate.resources`.
        limit: What the chosen networks may take together, in any unit; at least 0.
        costs: What each network takes: a function of the tuple of names, or a mapping (names joined by `+`, a tuple
            or a frozenset) that holds every candidate group. None: 1 each, so that networks are counted.

    Raises:
        ValueError: If the limit is not a finite number of at least 0, or the name is empty.
    """

    name: str
    limit: float
    costs: Costs | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("A resource needs a name, such as 'memory'. Got an empty one.")
        if not (isfinite(self.limit) and self.limit >= 0):
            raise ValueError(
                f"The limit of resource {self.name!r} must be a finite number, 0 or more. Got {self.limit!r}."
            )

    def __str__(self) -> str:
        return f"the limit {self.limit:g} of resource {self.name!r}"


@dataclass(frozen=True)
class Constraints:
    """What every choice of networks must respect; all of it is kept exactly, none of it is a penalty.

    Attributes:
        resources: Any number of limits, each on a sum over the chosen networks.
        min_size: The fewest tasks that a network may train; above 1 no task may be trained alone.
        max_size: The most tasks that a network may train; None: no limit.
        must_link: Each a group of tasks that are trained together: a network has all of them or none.
        cannot_link: Each a group of tasks no two of which are trained in one network.
        served_alone: Tasks that are served by a network of their own. They may still help in others.
        min_gain: The least gain, after the deduction of `kappa` standard deviations, that a task is served with: one
            number for all, or by name. With 0 nobody is worse off than alone.
        helpers: Whether a network may train a task that another one serves. Without helpers groups are disjoint.
        networks_per_task: The most networks that train a task; None: no limit. 1 is the same as no helpers.
        n_networks: Exactly how many networks, each of which serves a task; None: any number.
        trained: Groups whose network is there already: it takes nothing of the budget. It takes of the resources what
            they say.

    Raises:
        ValueError: If a number is out of range, or two of the constraints contradict each other; the message names
            both. What contradicts only for the gains at hand is found by the selection, which names it likewise.
    """

    resources: Sequence[Resource] = ()
    min_size: int = 1
    max_size: int | None = None
    must_link: Groups = ()
    cannot_link: Groups = ()
    served_alone: Collection[str] = ()
    min_gain: float | Mapping[str, float] | None = None
    helpers: bool = True
    networks_per_task: int | None = None
    n_networks: int | None = None
    trained: Groups = ()
    _blocks: tuple[frozenset[str], ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if isinstance(self.resources, Resource):
            raise ValueError(  # noqa: TRY004  # as for every other wrong argument
                f"resources is a collection of Resource. Got {self.resources}. Write (Resource(...),)."
            )
        object.__setattr__(self, "min_gain", by_name(self.min_gain))
        # What can be read only once, such as combinations(names, 2), is read here and kept.
        for name in ("resources", "must_link", "cannot_link", "served_alone", "trained"):
            given = getattr(self, name)
            if not hasattr(given, "__len__"):
                object.__setattr__(self, name, tuple(given))
        for name in ("min_size", "max_size", "networks_per_task", "n_networks"):
            number = getattr(self, name)
            if number is not None:
                object.__setattr__(self, name, whole_number(name, number))
        if not isinstance(self.min_gain, Mapping | Real | None):
            raise ValueError(  # noqa: TRY004
                f"min_gain is a number for all tasks, or one by name such as {{'a': 0.0}}. Got {self.min_gain!r}."
            )
        floors = self.min_gain.values() if isinstance(self.min_gain, Mapping) else [self.min_gain or 0.0]
        if not all(map(isfinite, floors)):
            raise ValueError(f"min_gain must be finite. Got {self.min_gain!r}. Leave it out for no floor.")
        if isinstance(self.served_alone, str):
            raise ValueError(  # noqa: TRY004  # as for every other wrong argument
                f"served_alone is a collection of names. Got {self.served_alone!r}. Write ({self.served_alone!r},)."
            )
        for group in self.trained:
            if isinstance(group, str):
                raise ValueError(f"trained holds groups of tasks, such as ('a', 'b'). Got {group!r}.")  # noqa: TRY004
        for name in ("must_link", "cannot_link"):
            for group in getattr(self, name):
                if isinstance(group, str) or len(set(group)) < 2:
                    raise ValueError(f"{name} holds groups of 2 or more tasks, such as ('a', 'b'). Got {group!r}.")
        names = [resource.name for resource in self.resources]
        if len(set(names)) < len(names):
            raise ValueError(f"Every resource needs a name of its own. Got {', '.join(names)}.")
        object.__setattr__(self, "_blocks", _connected(map(frozenset, self.must_link)))
        self._refuse_contradictions()

    @property
    def blocks(self) -> tuple[frozenset[str], ...]:
        """The tasks that `must_link` joins, directly or through others: disjoint groups of two or more."""
        return self._blocks

    def floor(self, task: str) -> float | None:
        """The least gain of a task; None if it has none."""
        return self.min_gain.get(task) if isinstance(self.min_gain, Mapping) else self.min_gain

    def named_tasks(self) -> set[str]:
        """Every task that is mentioned."""
        floors = self.min_gain if isinstance(self.min_gain, Mapping) else ()
        return {*self.served_alone, *floors}.union(*self.must_link, *self.cannot_link, *self.trained)

    def _refuse_contradictions(self) -> None:
        if self.max_size is not None and self.min_size > self.max_size:
            raise contradiction([f"min_size={self.min_size}", f"max_size={self.max_size}"])
        if self.served_alone and self.min_size > 1:
            raise contradiction([named("served_alone", self.served_alone), f"min_size={self.min_size}"])
        for block in self.blocks:
            linked = named("must_link", block)
            if self.max_size is not None and len(block) > self.max_size:
                raise contradiction([linked, f"max_size={self.max_size}"])
            for task in sorted(block.intersection(self.served_alone)):
                raise contradiction([linked, named("served_alone", (task,))])
            for pair in (pair for group in self.cannot_link for pair in combinations(sorted(group), 2)):
                if block.issuperset(pair):
                    raise contradiction([linked, named("cannot_link", pair)])


def whole_number(name: str, number: float) -> int:
    """A number of things as an integer, refused if it is not whole, not finite or below 1."""
    if not (1 <= number < inf and number == int(number)):
        raise ValueError(f"{name} must be a whole number, 1 or more. Got {number!r}.")
    return int(number)


def contradiction(names: Sequence[str], why: str = "") -> ValueError:
    """The error that names the constraints that cannot hold together, or the one that cannot hold by itself."""
    if len(names) == 1:
        return ValueError(f"{names[0]} cannot be met{why}. Loosen it, or add candidates.")
    text = f"{', '.join(names[:-1])} and {names[-1]}"
    return ValueError(f"{text} contradict each other{why}. Drop or loosen one of them.")


def named(what: str, group: Collection[str]) -> str:
    """A constraint on a group of tasks, as messages write it."""
    return f"{what} {group_name(sorted(group))}"


def _connected(groups: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Groups that share a task, joined."""
    joined: list[frozenset[str]] = []
    for group in groups:
        touching = [other for other in joined if other & group]
        joined = [other for other in joined if not other & group]
        joined.append(group.union(*touching))
    return tuple(joined)
