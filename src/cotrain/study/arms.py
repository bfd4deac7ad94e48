"""The arms of a check: single tasks, all in one, the chosen groups and random groups, as rows of one fleet."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cotrain.grouping import Group, Grouping, random_like

__all__ = [
    "ALL_IN_ONE",
    "GROUPED",
    "SINGLE",
    "Arm",
    "is_kept",
    "is_random",
    "make_arms",
    "networks_of",
    "weight_rows",
]

SINGLE, ALL_IN_ONE, GROUPED = "single", "all-in-one", "grouped"
RANDOM = "random-"


@dataclass(frozen=True)
class Arm:
    """One way to divide the tasks among networks.

    Args:
        name: single, all-in-one, grouped, random-1, ...
        groups: Its networks; every task that the arm is compared on is served by exactly one.
    """

    name: str
    groups: tuple[Group, ...]


def is_random(name: str) -> bool:
    """Whether an arm is a random cover."""
    return name.startswith(RANDOM)


def is_kept(name: str) -> bool:
    """Whether the networks of an arm are kept: those of random covers and other controls are not."""
    return name in (SINGLE, ALL_IN_ONE, GROUPED)


def make_arms(
    tasks: Sequence[str], grouping: Grouping, n_random: int, seed: int, controls: Mapping[str, Grouping] | None = None
) -> list[Arm]:
    """All arms of a check, those whose networks are kept first.

    Random covers are the chosen grouping with the names of its tasks permuted: the same sizes, helpers and cost,
    and only who trains with whom is left to chance. Covers that came out as the chosen grouping are drawn again;
    fewer are returned where no others exist.

    Args:
        tasks: All tasks; those that the grouping leaves out are trained alone and with all, for the record.
        grouping: The chosen groups.
        n_random: How many random covers.
        seed: Of the random covers.
        controls: Further groupings by name, to be compared with.
    """
    order = {task: position for position, task in enumerate(tasks)}
    arms = [
        Arm(SINGLE, tuple(Group((task,), (task,)) for task in tasks)),
        Arm(ALL_IN_ONE, (Group(tuple(tasks), tuple(tasks)),)),
        Arm(GROUPED, _in_order(grouping, order)),
        *(Arm(name, _in_order(control, order)) for name, control in (controls or {}).items()),
    ]
    rng = np.random.default_rng(seed)
    seen = {_shape(grouping)}
    for _ in range(100 * n_random):
        if len(seen) > n_random:
            break
        cover = random_like(grouping, rng)
        if _shape(cover) not in seen:
            seen.add(_shape(cover))
            arms.append(Arm(f"{RANDOM}{len(seen) - 1}", _in_order(cover, order)))
    return arms


def networks_of(arms: Iterable[Arm]) -> list[tuple[str, ...]]:
    """The different networks that the arms need, each once: the tasks that they train, in a fixed order."""
    return list(dict.fromkeys(group.trains for arm in arms for group in arm.groups))


def weight_rows(networks: Sequence[tuple[str, ...]], tasks: Sequence[str]) -> Tensor:
    """[G, T] loss weights: 1 for the tasks that a network trains."""
    number: Mapping[str, int] = {task: position for position, task in enumerate(tasks)}
    rows = torch.zeros(len(networks), len(tasks))
    for row, trains in zip(rows, networks, strict=True):
        row[[number[task] for task in trains]] = 1.0
    return rows


def _in_order(grouping: Grouping, order: Mapping[str, int]) -> tuple[Group, ...]:
    """The groups with their tasks in one order, so that equal networks of different arms are trained once."""
    return tuple(
        replace(
            group,
            trains=tuple(sorted(group.trains, key=order.__getitem__)),
            serves=tuple(sorted(group.serves, key=order.__getitem__)),
        )
        for group in grouping.groups
    )


def _shape(grouping: Grouping) -> frozenset[tuple[frozenset[str], frozenset[str]]]:
    return frozenset((frozenset(group.trains), frozenset(group.serves)) for group in grouping.groups)
