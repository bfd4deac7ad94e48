import pytest
import torch
from processes import BATCHES, WAYS, observe, run, watching
from small_transference import MIXED, Net, mixed_batch
from torch.optim import SGD

from cotrain.affinity import Transference

pytestmark = pytest.mark.filterwarnings("ignore:.*observed fewer than")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(run, args=(str(folder),), nprocs=2)
    return torch.load(folder / "found.pt", weights_only=False)


@pytest.mark.parametrize("name", WAYS)
def test_two_processes_merged_are_one_that_saw_all(name, found):
    whole, merged = watching(name), watching(name)
    observe(whole, range(BATCHES))
    merged.load_state_dict(found[0]["states"][name])
    merged.merge(found[1]["states"][name])
    result, expected = merged.result(), whole.result()
    assert result.n_observations == expected.n_observations == BATCHES
    assert torch.equal(result.observations, expected.observations)
    assert result.joint_descent >= 0
    if name == "tasks":  # each process has scales of its own, which are no part of what is estimated
        assert (result.matrix - expected.matrix).abs().max() < 0.5 * expected.matrix.abs().max()
    else:
        torch.testing.assert_close(result.matrix, expected.matrix, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(result.cosine, expected.cosine, rtol=1e-6, atol=1e-9)


def test_under_data_parallel_training_nothing_changes(found, assert_same):
    for rank in range(2):
        plain, observed = found[rank]["plain"], found[rank]["observed"]
        assert_same(observed["state"], plain["state"])
        assert_same(observed["random"], plain["random"])
        assert observed["measured"] == [4, 4, 3, 3]  # a sketch has no first order before Adam's first step
    weights = [found[rank]["observed"]["state"]["trunk.0.weight"] for rank in range(2)]
    assert torch.equal(*weights)


@pytest.mark.parametrize("name", WAYS)
def test_between_micro_batches_gradients_stay_as_they_are(name, assert_same):
    torch.manual_seed(0)
    model = Net(MIXED)
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    transference = Transference(model, MIXED, optimizer=optimizer, every=1, **WAYS[name])
    for step in range(2):
        optimizer.zero_grad()
        for micro in range(3):
            batch = mixed_batch(10 * step + micro)
            MIXED.losses(model(batch.inputs), batch.targets).sum().backward()
            before = [None if value.grad is None else value.grad.clone() for value in model.parameters()]
            transference.observe(batch)
            assert_same([value.grad for value in model.parameters()], before)
        optimizer.step()
    assert transference.result().n_observations == 6
