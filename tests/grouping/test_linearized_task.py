from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping.linearized_task import BLOCKS, Draws, fit_sums, held_out


@given(st.integers(1, 60), st.integers(0, 100))
def test_sums_over_blocks_are_sums_over_the_drawn_samples(n, seed):
    rng = np.random.default_rng(seed)
    draws = Draws.of(n, 3, "a", 0, seed)
    h, scale = rng.normal(size=(n, 4)), rng.random(n)
    np.testing.assert_allclose(draws.weights.sum(axis=1), 1)
    np.testing.assert_allclose(draws.weights[0], 1 / n)
    for weights, mean in zip(draws.weights, draws.means(h, scale), strict=True):
        np.testing.assert_allclose(mean, (h * (weights * scale)[:, None]).T @ h, atol=1e-12)


def test_every_block_holds_as_many_samples_and_draws_keep_their_number():
    draws = Draws.of(100, 50, "a", 0, 0)
    assert set(np.bincount(draws.blocks)) == {100 // BLOCKS, 100 // BLOCKS + 1}
    assert (draws.counts.sum(axis=1) == BLOCKS).all()
    assert not np.array_equal(draws.counts, Draws.of(100, 50, "b", 0, 0).counts)
    assert not np.array_equal(draws.counts, Draws.of(100, 50, "a", 1, 0).counts)
    assert not np.array_equal(draws.counts, Draws.of(100, 50, "a", 0, 1).counts)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_losses_and_slopes_are_those_of_the_weighted_samples(loss):
    rng = np.random.default_rng(0)
    h, f, labels = rng.normal(size=(20, 3)), 3 * rng.normal(size=20), rng.integers(2, size=20).astype(float)
    task = SimpleNamespace(name="a", loss=loss, gradients=h, outputs=f, labels=labels)
    draws = Draws.of(20, 4, "a", 0, 0)
    steps = rng.normal(size=(6, 3))

    def plain(step, weights):
        outputs = f + h @ step
        of_sample = (labels - outputs) ** 2 if loss == "squared" else np.logaddexp(0, outputs) - labels * outputs
        return weights @ of_sample

    _, slopes = fit_sums(task, draws)
    of_task = held_out(task, draws)
    np.testing.assert_allclose(of_task.losses(steps), [plain(step, draws.weights[0]) for step in steps], rtol=1e-9)
    moves = rng.normal(size=(4, 6, 3))
    for size in (0.1, 0.01):
        moved = steps + size * moves
        expected = [
            [plain(step, weights) for step in one] for one, weights in zip(moved, draws.weights[1:], strict=True)
        ]
        # The third derivative of a logistic loss is at most 1/10.
        farthest = np.abs(size * moves @ h.T).max()
        error = np.abs(of_task.redrawn(steps, moved) - expected).max()
        assert error < (1e-12 if loss == "squared" else farthest**3 / 60)
    for draw, weights in enumerate(draws.weights):
        numeric = [-(plain(step, weights) - plain(-step, weights)) / 2e-5 for step in 1e-5 * np.eye(3)]
        np.testing.assert_allclose(slopes[draw], numeric, rtol=1e-4, atol=1e-6)


def test_outputs_of_any_size_overflow_nowhere():
    task = SimpleNamespace(
        name="a",
        loss="logistic",
        gradients=np.ones((2, 1)),
        outputs=np.array([2000.0, -2000]),
        labels=np.array([1.0, 0]),
    )
    draws = Draws.of(2, 2, "a", 0, 0)
    curvature, slope = fit_sums(task, draws)
    assert (curvature == 0).all()
    assert (slope == 0).all()
    np.testing.assert_allclose(held_out(task, draws).losses(np.array([[0.0], [4000.0]])), [0, 1000])
