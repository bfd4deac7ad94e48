"""What candidates are worth for an objective, and what the constraints say of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cotrain.grouping.candidates import Pool
from cotrain.grouping.constraints import Constraints
from cotrain.grouping.gains import FloatArray
from cotrain.grouping.objective import Objective
from cotrain.grouping.program import Program
from cotrain.grouping.requirements import Requirement, requirements, restricted_program

__all__ = ["Appraisal"]


@dataclass(frozen=True)
class Appraisal:
    """Reads a pool of candidates for one selection.

    Attributes:
        goal: The objective; its units stand in the order of `tasks`.
        tasks: The tasks in the caller's order.
        constraints: What every choice must respect.
    """

    goal: Objective
    tasks: tuple[str, ...]
    constraints: Constraints

    def worth(self, pool: Pool) -> FloatArray:
        """[n, T] in the pool's order of tasks, minus infinity for tasks that a candidate does not train."""
        unit = self.goal.unit[np.argsort(np.array(self.tasks))]
        return replace(self.goal, unit=unit).worth(pool.mean, pool.std)

    def required(self, pool: Pool) -> list[Requirement]:
        """The constraints on the candidates of a pool; floors are compared with gains after the deduction."""
        sure = pool.mean if self.goal.kappa == 0 else pool.mean - self.goal.kappa * pool.std
        return requirements(self.constraints, pool, sure)

    def allowed_worth(self, pool: Pool) -> FloatArray:
        """The worth, minus infinity also for tasks that a candidate may not serve."""
        worth = self.worth(pool)
        for each in self.required(pool):
            if each.pairs is not None:
                worth[~each.pairs] = -np.inf
        return worth

    def program(self, pool: Pool, budget: float) -> tuple[Program, NDArray[np.intp]]:
        """The program over the candidates that can serve, and where these stand in the pool."""
        return restricted_program(self.worth(pool), pool, budget, self.required(pool))

    def with_many_networks(self) -> Appraisal:
        """The same without an exact number of networks."""
        return replace(self, constraints=replace(self.constraints, n_networks=None))
