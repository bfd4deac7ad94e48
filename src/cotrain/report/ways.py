"""Ways to use clusters: hard, soft and sparse memberships, and one wider network instead."""

from collections.abc import Sequence

from cotrain.report.figure import Figure
from cotrain.report.loss_rows import LossRow, loss_figure
from cotrain.report.palette import arm_colour
from cotrain.report.results import ALL_IN_ONE, GROUPED, Check, Way
from cotrain.report.wording import significant, way_title, with_interval

WIDER = "wider"


def ways_of(check: Check | None) -> tuple[Way, ...]:
    """Hard clusters, which are the chosen groups, before the other ways; nothing if no other was trained."""
    if check is None or not check.ways:
        return ()
    hard = check.arm(GROUPED)
    if hard is None or hard.relative is None:
        return check.ways
    return (Way("hard", "", hard.networks, float(hard.networks), hard.relative), *check.ways)


def way_rows(ways: Sequence[Way]) -> list[tuple[str, ...]]:
    """(way, networks, cost, relative loss with its interval)."""
    return [(way_title(way), str(way.networks), significant(way.cost), with_interval(way.relative)) for way in ways]


def way_figure(ways: Sequence[Way]) -> Figure | None:
    """One row per way; a colour of its own for the network that has no clusters."""
    if not ways:
        return None
    return loss_figure(
        [
            LossRow(way_title(way), way.relative, arm_colour(ALL_IN_ONE if way.variant == WIDER else GROUPED))
            for way in ways
        ]
    )
