"""Steps of all tasks, or of some, followed exactly and to first order on the same batch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cotrain.affinity.directions import seed_of
from cotrain.affinity.estimators import Place, Point, by_gram, by_lookahead
from cotrain.affinity.loss_derivatives import LossDerivatives
from cotrain.affinity.observations import Observed
from cotrain.lookahead import displacements

__all__ = ["CalibrationStep", "CalibrationSteps"]

AT_ONCE = 8
"""Steps of sources that are differentiated along together: memory grows with them."""


@dataclass(frozen=True)
class CalibrationStep:
    """What was found on one batch.

    Args:
        exact: [T, T] relative changes by exact steps; NaN in the rows of sources that were not followed.
        first_order: [T, T] the same to first order.
        own_falls: [T] of every source's loss by its own step, to first order and before the division.
        passes: Price, in forward passes through the network.
    """

    exact: Tensor
    first_order: Tensor
    own_falls: Tensor
    passes: float


class CalibrationSteps:
    """When exact steps are taken, and for which sources.

    Args:
        n_tasks: T.
        every: On every so-many-th observation, beginning with the first.
        n_sources: So many sources each time, in random order, every task once before any task twice; None: all.
        seed: Of that order.
    """

    def __init__(self, n_tasks: int, *, every: int, n_sources: int | None, seed: int) -> None:
        self._n_tasks, self._every, self._n_sources, self._seed = n_tasks, every, n_sources, seed
        self._counts = {"observations": 0, "steps": 0}

    def measure(self, place: Place, observed: Observed) -> CalibrationStep | None:
        """Measure if it is time to.

        Args:
            place: Where the training stands.
            observed: The observation there; the gradients that it computed are not computed again.
        """
        due = self._counts["observations"] % self._every == 0
        self._counts["observations"] += 1
        if not due:
            return None
        drawn = self._draw()
        self._counts["steps"] += 1
        if observed.point is None and self._n_sources is not None:
            return _of_few(place, observed.denominators, drawn)
        point = observed.point or Point.at(place)
        gradients = 0 if observed.point else 2 * len(point.rows) + 1
        point = replace(point, rows=[row for row in point.rows if row in drawn])
        if not point.rows:
            return None
        with torch.no_grad():
            exact, first_order = (point.with_absent(falls).cpu() for falls in (by_lookahead(point), by_gram(point)))
        return CalibrationStep(
            exact=exact / observed.denominators,
            first_order=first_order / observed.denominators,
            own_falls=first_order.diagonal(),
            passes=gradients + len(point.rows) + place.drifts,
        )

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process did, from its `state_dict`."""
        self._counts = {name: value + state[name] for name, value in self._counts.items()}

    def state_dict(self) -> dict[str, Any]:
        """How far it is."""
        return dict(self._counts)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state."""
        self._counts = {name: state[name] for name in self._counts}

    def _draw(self) -> set[int]:
        """The next sources in one random order of all tasks after another."""
        n = self._n_tasks if self._n_sources is None else min(self._n_sources, self._n_tasks)
        places = range(self._counts["steps"] * n, (self._counts["steps"] + 1) * n)
        orders = {
            cycle: torch.randperm(
                self._n_tasks, generator=torch.Generator().manual_seed(seed_of(self._seed, "sources", cycle))
            ).tolist()
            for cycle in {place // self._n_tasks for place in places}
        }
        return {orders[place // self._n_tasks][place % self._n_tasks] for place in places}


def _of_few(place: Place, denominators: Tensor, drawn: set[int]) -> CalibrationStep | None:
    """By backward passes of these sources alone; first order by differentiating all losses along their steps."""
    derivatives = LossDerivatives.at(place, graph=True)
    sound = derivatives.sound.tolist()
    found = {row: _gradient(derivatives, row) for row in sorted(drawn) if sound[row]}
    found = {row: one for row, one in found.items() if all(bool(value.isfinite().all()) for value in one.values())}
    rows = list(found)
    if not rows:
        return None
    with torch.no_grad():
        nothing = {name: torch.zeros_like(value) for name, value in found[rows[0]].items()}
        drift = displacements(place.parameters, nothing, place.rule)
        start = derivatives.losses
        if place.drifts:
            start = place.losses_with(_moved(place, drift))
        exact, first_order = [], []
        for few in (rows[k : k + AT_ONCE] for k in range(0, len(rows), AT_ONCE)):
            stacked = {name: torch.stack([found[row][name] for row in few]) for name in nothing}
            moves = displacements(place.parameters, stacked, place.rule)
            first_order.append(derivatives.along({name: drift[name] - move for name, move in moves.items()}).T)
            after = [
                place.losses_with(_moved(place, {name: move[k] for name, move in moves.items()}))
                for k in range(len(few))
            ]
            exact.append(start - torch.stack(after))
    whole = torch.full((2, len(sound), len(sound)), torch.nan, dtype=torch.float64)
    whole[:, rows] = torch.stack([torch.cat(exact), torch.cat(first_order)]).cpu()
    return CalibrationStep(
        exact=whole[0] / denominators,
        first_order=whole[1] / denominators,
        own_falls=whole[1].diagonal(),
        passes=1 + 5 * len(rows) + place.drifts,
    )


def _gradient(derivatives: LossDerivatives, row: int) -> dict[str, Tensor]:
    place = derivatives.place
    own = torch.where(derivatives.owner == row, derivatives.by_outputs, 0).to(derivatives.outputs.dtype)
    parameters = list(place.parameters.values())
    found = torch.autograd.grad(derivatives.outputs, parameters, own, retain_graph=True, materialize_grads=True)
    wide = (value.to(torch.promote_types(value.dtype, torch.float32)) for value in found)
    return dict(zip(place.parameters, wide, strict=True))


def _moved(place: Place, moves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: (value.detach() + moves[name]).to(value.dtype) for name, value in place.parameters.items()}
