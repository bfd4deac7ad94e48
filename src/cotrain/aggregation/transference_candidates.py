"""Which combinations of task gradients are tried at a step, as weights of the tasks."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from cotrain.aggregation.aggregation import Weighting
from cotrain.aggregation.pcgrad import projected_gradients_of

__all__ = ["JOINT", "Candidate", "Named", "check_candidates", "n_sums", "needs_products", "proposals"]

Named = Literal["closed-form", "log-sum", "singletons", "power-set", "pcgrad"]
Candidate: TypeAlias = Named | Collection[str] | Weighting
"""A kind of candidates by its name, one subset of the tasks by their names, or another aggregator's weights."""

JOINT = "joint"

MOST_ENUMERATED = 10
"""Tasks up to which all subsets are tried: 1,023 of them, each a forward pass."""


def check_candidates(candidates: Sequence[Candidate]) -> None:
    """Refuse candidates of an unknown kind.

    Raises:
        ValueError: Naming the first of them.
    """
    for candidate in candidates:
        if candidate not in get_args(Named) if isinstance(candidate, str) else not _is_sum(candidate):
            raise ValueError(
                f"There is no kind of candidates {candidate!r}. Use one of {list(get_args(Named))}, a list of task"
                " names for one subset, or a weighting."
            )


def needs_products(candidates: Sequence[Candidate]) -> bool:
    """Whether a candidate follows from the Gram matrix."""
    return "pcgrad" in candidates or any(not isinstance(candidate, Collection) for candidate in candidates)


def n_sums(candidates: Sequence[Candidate], n_tasks: int) -> int:
    """How many different sums the candidates ask for, about."""
    sizes = {"singletons": n_tasks, "power-set": 2 ** min(n_tasks, MOST_ENUMERATED + 1)}
    return sum(sizes.get(candidate, 1) if isinstance(candidate, str) else 1 for candidate in candidates)


def proposals(
    candidates: Sequence[Candidate],
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

    Args:
        candidates: What to try.
        names: All tasks.
        present: [T] which have a label in the batch; the others get weight 0.
        forced: [T] tasks that are in every subset.
        relative: [T] float64, 1 over the unit of every task's loss: the weights of the sum of relative losses.
        slopes: [T] along that sum, for "closed-form".
        gramian: [m, m] of the present tasks, for "pcgrad" and weightings.
        generator: Of PCGrad's orders.

    Returns:
        {name: weights [T] float64}.

    Raises:
        ValueError: If all subsets of too many tasks are asked for, or a subset has an unknown task.
    """
    rows = present.nonzero().flatten()
    sums: dict[str, Tensor] = {JOINT: present}
    others: dict[str, Tensor] = {}
    for candidate in candidates:
        if candidate == "closed-form":
            assert slopes is not None
            sums[candidate] = slopes > 0
        elif candidate == "log-sum":
            others[candidate] = torch.where(present, relative, 0)
        elif candidate == "singletons":
            sums.update({names[row]: torch.arange(len(names)) == row for row in rows.tolist()})
        elif candidate == "power-set":
            sums.update(_all_subsets(names, rows))
        elif candidate == "pcgrad":
            pass  # taken below, when all subsets are known
        elif isinstance(candidate, Collection):
            sums["+".join(candidate)] = _subset(candidate, names)
        else:
            assert gramian is not None
            weights = torch.zeros(len(names), dtype=torch.float64)
            weights[rows] = candidate(gramian.cpu()).to(weights)
            others[_name_of(candidate)] = weights
    # A task that is forced in does not make a subset of one that names no present task.
    sums = {name: (chosen | forced) & present for name, chosen in sums.items() if bool((chosen & present).any())}
    if "pcgrad" in candidates:
        assert gramian is not None
        projected = projected_gradients_of(gramian.cpu(), generator)
        for name, chosen in sums.items():
            others[f"pcgrad of {name}"] = torch.zeros(len(names), dtype=torch.float64)
            others[f"pcgrad of {name}"][rows] = chosen[rows].double() @ projected
    every = {name: chosen.double() for name, chosen in sums.items()} | others
    seen: dict[bytes, str] = {}
    return {
        name: weights for name, weights in every.items() if seen.setdefault(weights.numpy().tobytes(), name) == name
    }


def _all_subsets(names: Sequence[str], rows: Tensor) -> dict[str, Tensor]:
    if len(rows) > MOST_ENUMERATED:
        raise ValueError(
            f"The power set is for at most {MOST_ENUMERATED} tasks. Got {len(rows)}, which have {2.0 ** len(rows):.3g}"
            " subsets. Use 'closed-form': to first order it is the best of them."
        )
    found = {}
    for number in range(1, 2 ** len(rows)):
        chosen = rows[[bool(number >> bit & 1) for bit in range(len(rows))]]
        mask = torch.zeros(len(names), dtype=torch.bool)
        mask[chosen] = True
        found["+".join(names[row] for row in chosen.tolist())] = mask
    return found


def _subset(wanted: Collection[str], names: Sequence[str]) -> Tensor:
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(f"The candidate {list(wanted)} names {unknown}, but the tasks are {list(names)}.")
    return torch.tensor([name in wanted for name in names])


def _is_sum(candidate: object) -> bool:
    return isinstance(candidate, Collection) or callable(candidate)


def _name_of(weighting: Callable[[Tensor], Tensor]) -> str:
    return getattr(weighting, "__name__", type(weighting).__name__)
