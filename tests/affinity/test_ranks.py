import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from cotrain.affinity.ranks import average_ranks

values = st.one_of(st.integers(-3, 3).map(float), st.just(float("nan")), st.just(float("inf")), st.just(-float("inf")))


@given(st.lists(st.tuples(values, values), max_size=30))
def test_ranks_are_scipys(rows):
    columns = torch.tensor(rows, dtype=torch.float32).reshape(-1, 2)
    found = average_ranks(columns)
    for column in range(2):
        expected = rankdata(columns[:, column].numpy(), nan_policy="omit")
        np.testing.assert_array_equal(found[:, column].numpy(), expected)
