"""What `cotrain groups` is asked to do: from what, by which method, and what every choice must respect."""

import re
from dataclasses import dataclass

from cotrain.errors import ArgumentsError, as_arguments_errors
from cotrain.grouping import Constraints
from cotrain.grouping.objective import ObjectiveName
from cotrain.study.config import Features
from cotrain.study.words import groups_of, names_of, values_by_name

__all__ = ["GroupsConfig"]

LIMITS = (
    "partition",
    "max_size",
    "networks",
    "together",
    "apart",
    "alone",
    "at_least",
    "kappa",
    "objective",
)
"""Options that limit or weigh a choice by gains or scores; clusters know none of them."""

FLOOR = re.compile(r"\s*(?P<name>[^<>=]+?)\s*>?=\s*(?P<floor>[-+.\deE]+)\s*(?:[,;]|$)")


@dataclass(frozen=True)
class GroupsConfig:
    """The options of `cotrain groups`.

    Args:
        source: A study's folder; a CSV table of measured groups, with columns group (names joined by +), task and a
            loss or gain; or one of affinities, with columns source, target, affinity, stderr, observations.
        budget: The most networks (by default the study's own, or as many as --networks says).
        method: How groups are chosen. From a table of groups: measured (the best of the table's own groups, the
            default); or any group, predicted from the table: pairs (mean of the measured pairs, HOA), task-mean, ridge
            (a sum of effects of the other members), process (gains of similar groups), stacked (these together, by how
            well they predict). From affinities: transference (their mean, TAG; the default), affinity-clusters. From a
            study: all that `cotrain run` has (its own by default), those of a table by the groups that it has trained,
            linearized-calibrated, transference-calibrated.
        column: Of a table of groups: what to read, with loss or gain in its name (default: test_loss).
        std_column: Of a table of groups: where the standard deviation of the gains stands (default: they are exact).
        max_size: The most tasks in one network (by default the study's own limit, or none).
        networks: Exactly how many networks.
        together: Groups of tasks that are trained together or not at all, a+b,c+d.
        apart: Groups of tasks no two of which are trained in one network, a+b,c+d.
        alone: Tasks that are served by a network of their own, a,b. They may still help in others.
        at_least: The least gain (or score) that a task is served with, after the deduction of kappa: a number for all
            tasks (with 0 nobody is worse off than alone), or by name, "a >= 0, b >= 0.05".
        kappa: Standard deviations deducted from every gain (default: 1).
        objective: total_loss (a task with a large loss counts more), mean_gain (all count alike), or auto (the
            default): the total loss where losses are known.
        partition: Disjoint groups: no network trains a task that another one serves.
        features: Of data-maps: what is clustered (by default as in the study).
        fuzziness: Of data-maps: softness of memberships (by default as in the study).
        out: Write the groups to this file, as JSON.
    """

    source: str
    budget: int | None = None
    method: str | None = None
    column: str | None = None
    std_column: str | None = None
    max_size: int | None = None
    networks: int | None = None
    together: list[str] | str | None = None
    apart: list[str] | str | None = None
    alone: list[str] | str | None = None
    at_least: str | None = None
    kappa: float | None = None
    objective: ObjectiveName | None = None
    partition: bool = False
    features: Features | None = None
    fuzziness: float | None = None
    out: str | None = None

    @property
    def limits(self) -> list[str]:
        """The given options of `LIMITS`, as they are written."""
        given = {name: getattr(self, name) for name in LIMITS}
        return [f"--{name}" for name, value in given.items() if value is not None and value is not False]

    def refuse(self, *options: str, because: str) -> None:
        """Refuse options that mean nothing here.

        Raises:
            ArgumentsError: If one of them was given.
        """
        given = [f"--{name}" for name in options if getattr(self, name) is not None]
        if given:
            one = len(given) == 1
            raise ArgumentsError(
                f"{' and '.join(given)} {'belongs' if one else 'belong'} to {because}. Leave {'it' if one else 'them'}"
                " out."
            )

    @property
    def most_networks(self) -> int | None:
        """The budget; without one what `networks` says."""
        return self.networks if self.budget is None else self.budget

    def constraints(self) -> Constraints:
        """What every choice must respect.

        Raises:
            ArgumentsError: If an option is not understood.
            ValueError: If two of them contradict each other.
        """
        return Constraints(
            max_size=self.max_size,
            must_link=groups_of(self.together),
            cannot_link=groups_of(self.apart),
            served_alone=names_of(self.alone) or (),
            min_gain=self._floors(),
            n_networks=self.networks,
        )

    def _floors(self) -> float | dict[str, float] | None:
        if self.at_least is None:
            return None
        try:
            return float(self.at_least)
        except ValueError:
            floors = values_by_name(FLOOR, self.at_least, "--at_least", "a >= 0, b >= 0.05")
        with as_arguments_errors():
            return {name: float(floor) for name, floor in floors.items()}
