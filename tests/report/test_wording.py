import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.report.results import RelativeLoss, Way
from cotrain.report.wording import (
    LABEL_LENGTH,
    arm_title,
    decimal,
    duration,
    label,
    plain,
    signed,
    significant,
    way_title,
    with_interval,
)

LOSS = RelativeLoss(0.9, 0.8, 1.0, ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (decimal(-0.12345), "−0.123"),
        (decimal(-0.0004), "0.000"),
        (decimal(math.nan), "–"),
        (signed(0.5), "+0.50"),
        (signed(-0.5), "−0.50"),
        (signed(math.inf), "–"),
        (significant(12345.6), "12,346"),
        (significant(0.0123456), "0.0123"),
        (significant(-2.0), "−2"),
        (significant(math.nan), "–"),
        (duration(0.42), "0.4 s"),
        (duration(83), "83 s"),
        (duration(720), "12 min"),
        (duration(12_240), "3.4 h"),
        (arm_title("random-3"), "Random cover 3"),
        (arm_title("my-own"), "my-own"),
        (arm_title("label-correlation"), "Groups by label correlation"),
        (arm_title("by-difficulty"), "Groups by difficulty"),
        (arm_title("difficulty-matched"), "Difficulty-matched groups"),
        (way_title(Way("soft", "logits", 3, 3.0, LOSS)), "Soft, weighted logits"),
        (way_title(Way("wider", "", 1, 3.0, LOSS)), "One wider network"),
        (way_title(Way("my-own", "vote", 1, 3.0, LOSS)), "my-own, vote"),
        (with_interval(LOSS), "0.900 [0.800, 1.000]"),
        (with_interval(RelativeLoss(1.1, math.nan, math.nan, ())), "1.100"),
        (plain('<b>&"x'), '&lt;b&gt;&amp;"x'),
    ],
)
def test_as_written(text: str, expected: str) -> None:
    assert text == expected


@given(st.text(max_size=40))
def test_a_label_is_short_and_holds_no_markup(name: str) -> None:
    text = label(name)
    assert "<" not in text
    assert ">" not in text
    bare = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert len(bare) <= LABEL_LENGTH
    assert bare == name or (bare.endswith("…") and name.startswith(bare[:-1]))
