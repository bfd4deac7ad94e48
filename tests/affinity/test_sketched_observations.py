import pytest
import torch
from small_transference import MIXED, mixed_batch
from torch import nn

from cotrain import SharedTrunk, shared_parameters
from cotrain.affinity import Transference
from cotrain.affinity.estimators import Place
from cotrain.affinity.relative_losses import RelativeLosses
from cotrain.affinity.sketched_observations import SketchedObservations

pytestmark = pytest.mark.filterwarnings("ignore:.*observed fewer than")


def network():
    torch.manual_seed(0)
    return SharedTrunk(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()), MIXED, 8)


@pytest.mark.parametrize("along", ["parameters", "tasks"])
@pytest.mark.parametrize("repeats", [1, 2])
def test_an_observation_that_is_made_again_adds_nothing_to_the_effective_number(along, repeats):
    model, n = network(), 60
    shared = shared_parameters(model, MIXED, mixed_batch())
    observations, losses = SketchedObservations(4, 4, along=along), RelativeLosses(MIXED.names)
    for step in range(n // repeats):
        place = Place(model, MIXED, mixed_batch(step), shared, 0.05, step)
        for _ in range(repeats):
            observations.observe(place, losses, 1.0, 1.0)
    effective = observations.effective_n()
    assert effective.median() == pytest.approx(n / repeats, rel=0.3)
    assert (effective <= observations.changes.count).all()


def test_a_result_holds_the_effective_number_and_cosines_within_bounds():
    model = network()
    for along in ("parameters", "tasks"):
        watching = Transference(model, MIXED, estimator="sketch", along=along, directions=2, lr=0.05)
        for step in range(31):
            watching.observe(mixed_batch(step))
        found = watching.result()
        assert ((found.effective >= 1) & (found.effective <= 31)).all()
        known = found.cosine[found.cosine.isfinite()]
        assert known.abs().max() <= 1
        torch.testing.assert_close(found.cosine, found.cosine.T, equal_nan=True)
