"""Which preferences a training step looks at: random rays that cover the simplex evenly, and its corners too."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor

__all__ = ["Concentration", "RaySampler", "default_concentration"]

Concentration: TypeAlias = float | Sequence[float] | Tensor
"""Of a Dirichlet distribution: one number for all names, or one for each, the larger the likelier."""


def default_concentration(n_knobs: int) -> float:
    """1 for two names (uniform); less for more, since otherwise hardly a ray comes near a corner."""
    return min(1.0, 2 / n_knobs)


class RaySampler:
    """Draws preferences for one training step after another.

    Random rays alone never train the corners at which users look: of two names a share of .9 comes up in one ray of
    five, of twenty never. So a part of the rays is laid on corners and edges, in turn; the others are spread over the
    simplex: for two names one in each of as many quantiles of the Dirichlet distribution as there are rays, for more
    the rotations of one draw.

    Args:
        n_knobs: K entries of a preference.
        rays: W preferences per step.
        concentration: Of the Dirichlet distribution. Rays over more than two names are spread only if all are alike:
            a rotation would give one name's share to another.
        stratified: Whether random rays are spread as above, or independent.
        corners: The share of rays on corners and edges.
        seed: Of everything drawn.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self, n_knobs: int, rays: int, *, concentration: Concentration, stratified: bool, corners: float, seed: int
    ) -> None:
        if rays < 1:
            raise ValueError(f"rays must be at least 1. Got {rays}.")
        values = np.asarray(torch.as_tensor(concentration, dtype=torch.float64).cpu())
        if values.shape not in ((), (n_knobs,)) or not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(
                f"concentration must be a positive number, or one for each of {n_knobs} names. Got {concentration}."
            )
        if not 0 <= corners <= 1:
            raise ValueError(f"corners is the share of rays on corners and edges, from 0 to 1. Got {corners}.")
        self._n_knobs, self._rays = n_knobs, rays
        self._concentration = np.broadcast_to(values, n_knobs)
        alike = n_knobs == 2 or len(set(self._concentration.tolist())) == 1
        self._stratified, self._corners = stratified and alike, corners
        self._generator = np.random.default_rng(seed)
        self._owed = 0.0
        self._turn = 0

    def draw(self) -> Tensor:
        """[W, K] preferences in random order, in the default dtype."""
        self._owed += self._corners * self._rays
        on_faces = min(int(self._owed + 1e-9), self._rays)
        self._owed -= on_faces
        faces = [self._face() for _ in range(on_faces)]
        inner = self._inner(self._rays - on_faces)
        rows = np.concatenate([np.reshape(faces, (-1, self._n_knobs)), inner])
        # A batch that is cut into chunks may be in some order; its rays are not.
        return torch.from_numpy(self._generator.permutation(rows)).to(torch.get_default_dtype())

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        return {"generator": self._generator.bit_generator.state, "owed": self._owed, "turn": self._turn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._generator.bit_generator.state = state["generator"]
        self._owed, self._turn = state["owed"], state["turn"]

    def _face(self) -> NDArray[np.float64]:
        """The next corner; with more than two names every other time a point of an edge."""
        turn, self._turn = self._turn, self._turn + 1
        point = np.zeros(self._n_knobs)
        if self._n_knobs > 2 and turn % 2 == 1:
            first, second = self._generator.choice(self._n_knobs, 2, replace=False)
            point[first] = self._generator.random()
            point[second] = 1 - point[first]
        else:
            point[(turn // 2 if self._n_knobs > 2 else turn) % self._n_knobs] = 1
        return point

    def _inner(self, number: int) -> NDArray[np.float64]:
        if number == 0 or self._n_knobs == 1:
            return np.ones((number, self._n_knobs))
        if not self._stratified:
            return self._generator.dirichlet(self._concentration, size=number)
        if self._n_knobs == 2:
            quantiles = (np.arange(number) + self._generator.random(number)) / number
            first = betaincinv(self._concentration[0], self._concentration[1], quantiles)
            return np.stack([first, 1 - first], axis=1)
        draws = self._generator.dirichlet(self._concentration, size=-(-number // self._n_knobs))
        rotations = [np.roll(draw, shift) for draw in draws for shift in self._generator.permutation(self._n_knobs)]
        return np.stack(rotations[:number])
