import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cotrain.report.figure import limits, listed

numbers = st.floats(-1e6, 1e6)


def test_listed_is_short_and_has_null_for_what_is_not_finite() -> None:
    assert listed([1 / 3, math.nan, math.inf, 0.0]) == [0.3333, None, None, 0.0]
    assert listed(np.array([[1.0, 2.0], [3.0, 4.0]])) == [[1.0, 2.0], [3.0, 4.0]]


@given(st.lists(numbers | st.just(math.nan)), numbers)
def test_limits_hold_every_value(values: list[float], included: float) -> None:
    low, high = limits(values, include=(included,))
    assert low < included < high
    assert all(low < value < high for value in values if math.isfinite(value))
