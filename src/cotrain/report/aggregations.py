"""Ways to combine gradients that the networks of several tasks were trained with, beside the plain sum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cotrain.report.figure import Figure, axis, listed
from cotrain.report.loss_rows import LossRow, loss_figure
from cotrain.report.palette import arm_colour
from cotrain.report.results import ALL_IN_ONE, GROUPED, Arm, Check, arm_from
from cotrain.report.wording import arm_title, plain, with_interval

PLAIN_SUM = "plain sum"


MOST_SHOWN = 3
"""Candidates that are drawn by name, those that won most often; the rest are one colour."""

COLOURS = ("@single", "@grouped", "@all-in-one", "@random")


@dataclass(frozen=True, eq=False)
class Choices:
    """What IT-MTL chose while it trained a network.

    Attributes:
        trains: The network's tasks.
        start: The first step of every stretch of steps.
        picked: Candidate -> the number of steps at which it won, by stretch.
    """

    trains: tuple[str, ...]
    start: tuple[int, ...]
    picked: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Aggregated:
    """The networks of several tasks, trained again with their gradients combined.

    Attributes:
        name: Of the aggregation.
        checked: Digest of the metrics.json that it was compared with.
        arms: Those that have a network of several tasks; `networks` is the number of these, `relative` the loss over
            that of the same arm with the plain sum.
        skipped_steps: Of all seeds, because a gradient was NaN or infinite.
        choices: Of the first seed's networks, for IT-MTL.
    """

    name: str
    checked: str
    arms: tuple[Arm, ...]
    skipped_steps: int
    choices: tuple[Choices, ...] = ()

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
        choices=tuple(
            Choices(
                trains=tuple(str(task) for task in network["trains"]),
                start=tuple(int(step) for step in network["choices"]["start"]),
                picked={str(k): tuple(int(n) for n in v) for k, v in network["choices"]["picked"].items()},
            )
            for network in record["networks"]
            if "choices" in network
        ),
    )


def choice_figures(aggregations: Sequence[Aggregated]) -> list[tuple[str, str, Figure]]:
    """(id in the page, heading, picture) of every network for which choices were counted."""
    return [
        (f"choices-{found.name}-{number}", f"What {found.name} chose for {', '.join(choices.trains)}", _chosen(choices))
        for found in aggregations
        for number, choices in enumerate(found.choices)
    ]


def _chosen(choices: Choices) -> Figure:
    ordered = sorted(choices.picked.items(), key=lambda item: -sum(item[1]))
    shown = dict(ordered[:MOST_SHOWN])
    if len(ordered) > MOST_SHOWN:
        shown["others"] = tuple(map(sum, zip(*(counts for _, counts in ordered[MOST_SHOWN:]), strict=True)))
    totals = [sum(counts) for counts in zip(*choices.picked.values(), strict=True)]
    # A bar ends where the next one begins, the last one with the training.
    widths = [n if n > 0 else 1 for n in totals]
    return Figure(
        data=[
            {
                "type": "bar",
                "name": plain(name),
                "x": list(choices.start),
                "width": widths,
                "offset": 0,
                "y": listed([n / max(total, 1) for n, total in zip(counts, totals, strict=True)]),
                "marker": {"color": colour},
                "hovertemplate": "from step %{x}: %{y:.0%} of the steps<extra>%{fullData.name}</extra>",
            }
            for (name, counts), colour in zip(shown.items(), COLOURS, strict=False)
        ],
        layout={
            "barmode": "stack",
            "xaxis": axis("training step", nticks=8, range=[0, choices.start[-1] + widths[-1]]),
            "yaxis": axis("share of steps", range=[0, 1], tickformat=".0%", nticks=5),
            "showlegend": True,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "margin": {"l": 76, "r": 12, "t": 44, "b": 50},
        },
        height=240,
        max_width=720,
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
