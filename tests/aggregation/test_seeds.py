"""What an aggregation draws follows from a seed, or from a generator that gives one."""

import pytest
import torch
from linear_losses import RANDOM, some_gradients, step

from cotrain.aggregation import named
from cotrain.aggregation.described import described


@pytest.mark.parametrize("name", [*RANDOM, "transference"])
def test_a_generator_gives_a_seed(name, assert_same):
    """It moves on by one number, whatever is drawn later, and who made it may go on drawing from it."""
    options = {"candidates": "pcgrad", "equal_norm": False} if name == "transference" else {}
    found = []
    for seed in (torch.Generator().manual_seed(5), torch.Generator().manual_seed(5), torch.Generator().manual_seed(6)):
        aggregation = named(name, seed=seed, **options)
        torch.rand(3, generator=seed)
        steps = [step(aggregation, some_gradients(5, 7)) for _ in range(5)]
        found.append([described(aggregation), steps, aggregation.state_dict(), seed.get_state()])
    assert_same(found[1], found[0])
    assert found[2][0] != found[0][0]
