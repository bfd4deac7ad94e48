from collections.abc import Mapping

import pytest

from cotrain.report.palette import DARK, LIGHT, arm_colour, css_variables

READABLE = 4.5
VISIBLE = 2.5


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_and_marks_can_be_seen(palette: Mapping[str, str]) -> None:
    for role in ("ink", "muted", "grouped"):
        assert contrast(palette[role], palette["page"]) >= READABLE
    for role in ("single", "all-in-one", "random", "helps", "hurts", "many"):
        assert contrast(palette[role], palette["page"]) >= VISIBLE
    for role in ("few", "share"):  # numbers are written on these in ink
        assert contrast(palette["ink"], palette[role]) >= READABLE


def test_both_palettes_have_every_role() -> None:
    assert set(LIGHT) == set(DARK)
    assert css_variables({"ink": "#000000"}) == "--ink: #000000;"


def test_random_covers_share_a_colour() -> None:
    assert arm_colour("random-1") == arm_colour("random-2") == "@random"
    assert arm_colour("grouped") == "@grouped"
