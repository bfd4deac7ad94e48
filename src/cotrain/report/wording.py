"""Numbers and names as they are written on the page."""

import html
import math

from cotrain.report.results import ALL_IN_ONE, GROUPED, RANDOM, SINGLE, RelativeLoss, Way

LABEL_LENGTH = 18
NOTHING = "–"
ARM_TITLES = {
    SINGLE: "Single tasks",
    ALL_IN_ONE: "All in one",
    GROUPED: "Chosen groups",
    "label-correlation": "Groups by label correlation",
    "by-difficulty": "Groups by difficulty",
    "difficulty-matched": "Difficulty-matched groups",
}
VARIANT_TITLES = {"hard": "Hard", "soft": "Soft", "sparse": "Sparse", "wider": "One wider network"}
COMBINATION_TITLES = {"logits": "weighted logits", "probabilities": "weighted probabilities", "best": "best network"}


def decimal(value: float, digits: int = 3) -> str:
    """A number with a fixed count of decimals and a true minus sign; a dash where there is none."""
    return f"{value:z.{digits}f}".replace("-", "−") if math.isfinite(value) else NOTHING


def signed(value: float, digits: int = 2) -> str:
    """As `decimal`, with a plus sign too."""
    return f"{value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else NOTHING


def significant(value: float, digits: int = 3) -> str:
    """A number of any size with so many significant digits, and thousands separated."""
    if not math.isfinite(value):
        return NOTHING
    rounded = f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"
    return rounded.replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds as people read them: 0.4 s, 83 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def arm_title(arm: str) -> str:
    """What an arm is called on the page."""
    return ARM_TITLES.get(arm, arm.replace(RANDOM, "Random cover "))


def way_title(way: Way) -> str:
    """What a way to use clusters is called on the page."""
    variant = VARIANT_TITLES.get(way.variant, way.variant)
    return f"{variant}, {COMBINATION_TITLES.get(way.by, way.by)}" if way.by else variant


def with_interval(relative: RelativeLoss) -> str:
    """A relative loss with its interval, if there is one."""
    interval = f" [{decimal(relative.low)}, {decimal(relative.high)}]"
    return decimal(relative.mean) + (interval if math.isfinite(relative.low) else "")


def label(name: str) -> str:
    """A task's name short enough for an axis, safe for Plotly (which reads a subset of HTML)."""
    return plain(name if len(name) <= LABEL_LENGTH else name[: LABEL_LENGTH - 1] + "…")


def plain(name: str) -> str:
    """A name in full, safe for Plotly."""
    return html.escape(name, quote=False)


def cells(value: object) -> str:
    """A value of a configuration or a version table as text."""
    if value is None:
        return NOTHING
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cells, value)) or NOTHING
    if isinstance(value, float):
        return f"{value:g}"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
