import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.grouping import fuzzy_c_means as module
from cotrain.grouping.fuzzy_c_means import fuzzy_c_means
from cotrain.grouping.geometry import task_geometry
from cotrain.grouping.k_means import k_means
from cotrain.grouping.memberships import fuzzy_memberships


def solve(points, n_clusters, fuzziness):
    found = task_geometry(points)
    start = k_means(found.squared, n_clusters, weights=found.weights, n_init=5, rng=np.random.default_rng(0)).averages
    return fuzzy_c_means(found.squared, start, fuzziness, weights=found.weights)[found.row], start @ points[
        found.position
    ]


def plain(points, centres, fuzziness):
    """Bezdek's alternation with coordinates."""
    variance = ((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()
    for _ in range(300):
        distances = np.sqrt(((points[:, None] - centres) ** 2).sum(axis=2))
        powers = fuzzy_memberships(distances, fuzziness) ** fuzziness
        moved = (powers.T @ points) / powers.sum(axis=0)[:, None]
        shift = ((moved - centres) ** 2).sum()
        centres = moved
        if shift <= 1e-6 * variance:
            break
    return np.sqrt(((points[:, None] - centres) ** 2).sum(axis=2))


@given(seed=st.integers(0, 999), n_clusters=st.integers(1, 4), fuzziness=st.floats(1.05, 2.5), width=st.integers(1, 20))
def test_it_is_the_alternation_of_the_definition(seed, n_clusters, fuzziness, width):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(14, width))[rng.integers(12, size=14)]
    distances, start = solve(points, n_clusters, fuzziness)
    np.testing.assert_allclose(distances, plain(points, start, fuzziness), atol=1e-6)


@pytest.mark.parametrize("fuzziness", [1.001, 1.07, 3.0, 50.0])
def test_no_fuzziness_gives_nan(fuzziness):
    points = np.concatenate([np.random.default_rng(0).normal(size=(9, 3)), [[50.0, 50.0, 50.0]]])
    weights = fuzzy_memberships(solve(points, 4, fuzziness)[0], fuzziness)
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_a_centre_that_nobody_belongs_to_stays():
    start = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    memberships = np.array([[0.0, 1.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    moved = module._averages(memberships, 2.0, np.ones(3), start)
    np.testing.assert_array_equal(moved[0], start[0])
    np.testing.assert_allclose(moved.sum(axis=1), 1)


def test_rounds_are_limited(monkeypatch):
    points = np.random.default_rng(0).normal(size=(30, 2))
    enough = solve(points, 4, 2.0)[0]
    monkeypatch.setattr(module, "MAX_ROUNDS", 1)
    assert not np.allclose(solve(points, 4, 2.0)[0], enough)
