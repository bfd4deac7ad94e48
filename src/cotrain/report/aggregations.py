"""Ways to combine gradients that the networks of several tasks were trained with, beside the plain sum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cotrain.report.figure import Figure
from cotrain.report.loss_rows import LossRow, loss_figure
from cotrain.report.palette import arm_colour
from cotrain.report.results import ALL_IN_ONE, GROUPED, Arm, Check, arm_from
from cotrain.report.wording import arm_title, with_interval

PLAIN_SUM = "plain sum"


@dataclass(frozen=True, eq=False)
class Aggregated:
    """The networks of several tasks, trained again with their gradients combined.

    Attributes:
        name: Of the aggregation.
        checked: Digest of the metrics.json that it was compared with.
        arms: Those that have a network of several tasks; `networks` is the number of these, `relative` the loss over
            that of the same arm with the plain sum.
        skipped_steps: Of all seeds, because a gradient was NaN or infinite.
    """

    name: str
    checked: str
    arms: tuple[Arm, ...]
    skipped_steps: int

    def arm(self, name: str) -> Arm | None:
        """The arm of this name, if it has a network of several tasks."""
        return next((arm for arm in self.arms if arm.name == name), None)


def aggregated_from(record: Mapping[str, Any], names: Sequence[str]) -> Aggregated:
    """The content of aggregation/NAME.json, with results as arrays [seeds, tasks] in the order of `names`."""
    return Aggregated(
        name=str(record["aggregation"]),
        checked=str(record["checked"]),
        arms=tuple(arm_from(arm, entry, record["relative_loss"][arm], names) for arm, entry in record["arms"].items()),
        skipped_steps=int(record["skipped_steps"]),
    )


def aggregation_figure(aggregations: Sequence[Aggregated]) -> Figure | None:
    """One row per aggregation and arm: the total loss, its interval and the seeds, with the plain sum at 1."""
    rows = [
        LossRow(f"{found.name}, {arm_title(arm.name).lower()}", arm.relative, arm_colour(arm.name))
        for found in aggregations
        for arm in found.arms
        if arm.relative is not None
    ]
    return loss_figure(rows, against=f"the {PLAIN_SUM}") if rows else None


def aggregation_rows(aggregations: Sequence[Aggregated]) -> list[tuple[str, ...]]:
    """(aggregation, arm, networks, relative loss with its interval, skipped steps), one per aggregation and arm."""
    return [
        (found.name, arm_title(arm.name), str(arm.networks), with_interval(arm.relative), str(found.skipped_steps))
        for found in aggregations
        for arm in found.arms
        if arm.relative is not None
    ]


def aggregation_columns(check: Check, aggregations: Sequence[Aggregated]) -> list[tuple[str, list[str], list[Arm]]]:
    """By arm with a network of several tasks: its title, and titles and arms of the plain sum and the aggregations."""
    found = []
    for name in (ALL_IN_ONE, GROUPED):
        plain = check.arm(name)
        combined = [(one.name, arm) for one in aggregations if (arm := one.arm(name)) is not None]
        if plain is not None and combined:
            titles = [PLAIN_SUM, *(title for title, _ in combined)]
            found.append((arm_title(name), titles, [plain, *(arm for _, arm in combined)]))
    return found
