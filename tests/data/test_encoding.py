import numpy as np
import pandas as pd
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.data.encoding import OneHot, Standardiser

WORDS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=20)


@settings(deadline=None, max_examples=30)
@given(WORDS, WORDS)
def test_one_hot_marks_the_category_and_ignores_unknown_ones(known: list[str], other: list[str]) -> None:
    learned = pd.DataFrame({"x": pd.Categorical(known, categories=list("dcba"))})
    encoder = OneHot.learn(learned, ("x",))
    assert encoder.names == tuple(f"x={word}" for word in sorted(set(known)))
    encoded = encoder.apply(pd.DataFrame({"x": pd.Categorical(other)}))
    for row, word in zip(encoded, other, strict=True):
        assert row.tolist() == [float(name == f"x={word}") for name in encoder.names]


def test_more_than_a_hundred_indicators() -> None:
    words = [f"{number:03}" for number in range(200)]
    frame = pd.DataFrame({"x": pd.Categorical(words), "y": pd.Categorical(words[::-1])})
    encoded = OneHot.learn(frame, ("x", "y")).apply(frame)
    assert torch.equal(encoded, torch.cat([torch.eye(200), torch.eye(200).flip(1)], dim=1))


def test_a_constant_column_becomes_zero() -> None:
    values = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert Standardiser.learn(values).apply(values).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
