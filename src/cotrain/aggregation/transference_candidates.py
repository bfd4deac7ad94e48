"""Which combinations of task gradients are tried at a step, as weights of the tasks."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from cotrain.aggregation.pcgrad import projected_gradients_of

__all__ = ["JOINT", "KINDS", "Named", "Sums", "free_name", "n_sums", "proposals"]

Named = Literal["closed-form", "log-sum", "singletons", "power-set", "pcgrad"]
KINDS: tuple[str, ...] = get_args(Named)

Sums: TypeAlias = Sequence[str | tuple[str, ...]]
"""Kinds of candidates by their names, and subsets of the tasks by theirs."""

JOINT = "joint"

MOST_ENUMERATED = 10
"""Tasks up to which all subsets are tried: 1,023 of them, each a forward pass."""


def n_sums(candidates: Sums, n_tasks: int) -> int:
    """How many different sums the candidates ask for, about."""
    sizes = {"singletons": n_tasks, "power-set": 2 ** min(n_tasks, MOST_ENUMERATED + 1)}
    return sum(sizes.get(candidate, 1) if isinstance(candidate, str) else 1 for candidate in candidates)


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it if it is taken: "joint (2)"."""
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name} ({number})"
    return free


def proposals(
    candidates: Sums,
    *,
    names: Sequence[str],
    present: Tensor,
    forced: Tensor,
    relative: Tensor,
    slopes: Tensor | None,
    gramian: Tensor | None,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The candidates of a step by name, the joint sum first; each combination once.

    No name hides another combination: of a task that is named "joint", or as a kind, the own sum is "joint (2)".

    Args:
        candidates: What to try.
        names: All tasks.
        present: [T] which have a label in the batch; the others get weight 0.
        forced: [T] tasks that are in every subset.
        relative: [T] float64, 1 over the unit of every task's loss: the weights of the sum of relative losses.
        slopes: [T] along that sum, for "closed-form".
        gramian: [m, m] of the present tasks, for "pcgrad".
        generator: Of PCGrad's orders.

    Returns:
        {name: weights [T] float64}.

    Raises:
        ValueError: If all subsets of too many tasks are asked for, or a subset has an unknown task.
    """
    rows = present.nonzero().flatten()
    single = {name: free_name(name, {JOINT, *KINDS}) for name in names}
    sums: dict[str, Tensor] = {JOINT: present}
    others: dict[str, Tensor] = {}
    for candidate in candidates:
        if candidate == "closed-form":
            assert slopes is not None
            sums[candidate] = slopes > 0
        elif candidate == "log-sum":
            others[candidate] = torch.where(present, relative, 0)
        elif candidate == "pcgrad":
            pass  # taken below, when all subsets are known
        else:
            for chosen in _subsets(candidate, names, rows):
                mask = _subset(chosen, names)
                name = single[chosen[0]] if len(chosen) == 1 else "+".join(chosen)
                taken = {*KINDS, *(single.values() if len(chosen) > 1 else ()), *_others_than(mask, sums)}
                sums[free_name(name, taken)] = mask
    # A task that is forced in does not make a subset of one that names no present task.
    sums = {name: (chosen | forced) & present for name, chosen in sums.items() if bool((chosen & present).any())}
    if "pcgrad" in candidates:
        assert gramian is not None
        projected = projected_gradients_of(gramian.cpu(), generator)
        for name, mask in sums.items():
            weights = torch.zeros(len(names), dtype=torch.float64)
            weights[rows] = mask[rows].double() @ projected
            others[free_name(f"pcgrad of {name}", sums)] = weights
    every = {name: chosen.double() for name, chosen in sums.items()} | others
    seen: dict[bytes, str] = {}
    return {
        name: weights for name, weights in every.items() if seen.setdefault(weights.numpy().tobytes(), name) == name
    }


def _subsets(candidate: str | tuple[str, ...], names: Sequence[str], rows: Tensor) -> Sequence[tuple[str, ...]]:
    if isinstance(candidate, tuple):
        return [candidate]
    return [(names[row],) for row in rows.tolist()] if candidate == "singletons" else _all_subsets(names, rows)


def _others_than(mask: Tensor, sums: Mapping[str, Tensor]) -> list[str]:
    """The names of the sums of other tasks than these."""
    return [name for name, other in sums.items() if name == JOINT or not torch.equal(mask, other)]


def _all_subsets(names: Sequence[str], rows: Tensor) -> list[tuple[str, ...]]:
    if len(rows) > MOST_ENUMERATED:
        raise ValueError(
            f"The power set is for at most {MOST_ENUMERATED} tasks. Got {len(rows)}, which have {2.0 ** len(rows):.3g}"
            " subsets. Use 'closed-form': to first order it is the best of them."
        )
    numbers = range(1, 2 ** len(rows))
    return [tuple(names[row] for bit, row in enumerate(rows.tolist()) if number >> bit & 1) for number in numbers]


def _subset(wanted: Collection[str], names: Sequence[str]) -> Tensor:
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(f"The candidate {list(wanted)} names {unknown}, but the tasks are {list(names)}.")
    return torch.tensor([name in wanted for name in names])
