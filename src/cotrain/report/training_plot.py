"""What the trainings bought: the worth of the best choice among trained groups, round by round."""

import math
from typing import Any

from cotrain.report.figure import Figure, axis, limits, listed
from cotrain.report.trainings import WHY, TrainingRound, Trainings
from cotrain.report.wording import plain, significant

MARKS = {
    "first": ("circle-open", "@single"),
    "chosen": ("circle", "@grouped"),
    "improvement": ("diamond", "@all-in-one"),
    "uncertainty": ("square", "@all-in-one"),
    "random": ("triangle-up", "@random"),
}
"""A round's reason -> its mark, told apart by shape too."""

OTHER_MARK = ("cross", "@muted")

NEEDS = 2
"""Rounds with a value from which there is a line."""


def training_figure(trainings: Trainings) -> Figure | None:
    """Value over the number of trainings; None unless two rounds or more have one."""
    known = [done for done in trainings.rounds if math.isfinite(done.value)]
    if len(known) < NEEDS:
        return None
    reasons = dict.fromkeys(done.why for done in known)
    return Figure(
        data=[
            {
                "type": "scatter",
                "mode": "lines",
                "x": [done.spent for done in known],
                "y": listed([done.value for done in known]),
                # What a round has shown is known from its end on.
                "line": {"color": "@muted", "width": 1.5, "shape": "hv"},
                "hoverinfo": "skip",
                "showlegend": False,
            },
            *(_marks(why, [done for done in known if done.why == why]) for why in reasons),
        ],
        layout={
            "xaxis": axis(
                "trainings, single tasks included", range=[0, 1.03 * max(trainings.limit, trainings.spent)], nticks=8
            ),
            "yaxis": axis("total loss saved", range=limits([done.value for done in known]), nticks=6),
            "showlegend": True,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "margin": {"l": 76, "r": 12, "t": 64, "b": 50},
        },
        height=340,
        max_width=720,
    )


def _marks(why: str, rounds: list[TrainingRound]) -> dict[str, Any]:
    symbol, colour = MARKS.get(why, OTHER_MARK)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(WHY.get(why, why)),
        "x": [done.spent for done in rounds],
        "y": listed([done.value for done in rounds]),
        "text": [_says(done) for done in rounds],
        "hovertemplate": "after %{x} trainings, %{text}<br>total loss saved %{y}<extra></extra>",
        "marker": {"symbol": symbol, "size": 9, "color": colour},
    }


def _says(done: TrainingRound) -> str:
    expected = f"<br>expected improvement {significant(done.expected)}" if math.isfinite(done.expected) else ""
    return f"{done.trained} in this round{expected}"
