"""What better choice there was among the networks that a check trained: the regret, beside that of chance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cotrain.grouping import GainTable, random_regret, regret
from cotrain.study.gain_table import Losses

__all__ = ["Hindsight", "hindsight"]

DRAWS = 200
"""Random covers; their mean is then known to a fifteenth of their spread."""

FEWEST_GROUPS = 2
"""Groups of several tasks beside the chosen ones: with fewer there was nothing else to choose."""


@dataclass(frozen=True)
class Hindsight:
    """The chosen groups held against all choices of as many networks among those of the check; means over its seeds.

    Measured by the mean gain over training alone on test data. With each seed the best choice is picked by the same
    test losses and so flattered: some regret is there for the truly best groups too, which is why chance stands beside.

    Args:
        regret: What the best choice has over the chosen groups, as a share of the losses alone; 0: none was better.
        random: The mean of the same over random choices that cover all tasks.
        n_networks: How many networks were chosen.
        n_trained: Among how many that were trained with a seed.
    """

    regret: float
    random: float
    n_networks: int
    n_trained: int

    @property
    def sentence(self) -> str:
        """The same in words."""
        among = f"choice of {self.n_networks} among the {self.n_trained} networks of the check"
        chance = f"random choices are {self.random:.3f} above the best on average"
        if self.regret <= 0:
            return f"In hindsight no {among} has a lower mean relative loss than the chosen groups; {chance}."
        return (
            f"In hindsight the best {among} has a mean relative loss {self.regret:.3f} below that of the chosen groups;"
            f" {chance}."
        )


def hindsight(
    chosen: Sequence[tuple[str, ...]], learnable: Sequence[str], losses: Mapping[int, Losses]
) -> Hindsight | None:
    """The regret of the chosen networks on the test losses of a check.

    Args:
        chosen: The tasks of each network that serves a learnable task.
        learnable: The tasks that are compared.
        losses: By seed, network and task; every learnable task alone among them.

    Returns:
        None if there was nothing else to choose, or a gain is not defined.
    """
    tables = [_table(learnable, chosen, table) for table in losses.values()]
    served = list(dict.fromkeys(_seen(trains, learnable) for trains in chosen))
    known = [table for table in tables if table is not None]
    if len(known) < len(tables) or len(served) < len(chosen):
        return None
    budget = len(served)
    return Hindsight(
        float(np.mean([regret(served, table, budget=budget) for table in known])),
        float(np.mean([random_regret(table, budget, draws=DRAWS).mean() for table in known])),
        budget,
        max(len(table.groups) for table in known),
    )


def _table(learnable: Sequence[str], chosen: Sequence[tuple[str, ...]], losses: Losses) -> GainTable | None:
    """The realised gains of one seed; None if too few groups were trained, or a gain is not defined."""
    groups = {_seen(trains, learnable): trains for trains in (*sorted(losses), *chosen)}
    groups.pop((), None)
    others = [seen for seen, trains in groups.items() if len(seen) > 1 and trains not in chosen]
    alone = np.array([losses[(task,)][task] for task in learnable])
    if len(learnable) < 2 or len(others) < FEWEST_GROUPS or not (alone > 0).all():
        return None
    rows = [
        [losses[trains][task] if task in seen else math.nan for task in learnable] for seen, trains in groups.items()
    ]
    return GainTable(tuple(learnable), list(groups), 1 - np.array(rows) / alone)


def _seen(trains: Sequence[str], learnable: Sequence[str]) -> tuple[str, ...]:
    return tuple(task for task in learnable if task in trains)
