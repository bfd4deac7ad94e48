import pytest
import torch
from torch.utils.data import TensorDataset

from cotrain.batches import batches, count, epoch_order, map_tensors
from cotrain.errors import DataError

INPUTS = torch.arange(14.0).view(7, 2)
TARGETS = torch.arange(7.0).view(7, 1)


def forms(as_dataset):
    by_name = {"a": TARGETS.squeeze(1), "b": INPUTS}
    return {
        "pair": (INPUTS, TARGETS),
        "tensor dataset": TensorDataset(INPUTS, TARGETS),
        "dataset": as_dataset(INPUTS, TARGETS),
        "named pair": (INPUTS, by_name),
        "named dataset": as_dataset(INPUTS, by_name),
    }


@pytest.mark.parametrize("order", [None, torch.tensor([6, 0, 3, 3, 1])])
def test_all_forms_of_samples_give_the_same_batches(as_dataset, assert_same, order):
    for name, samples in forms(as_dataset).items():
        assert count(samples) == 7
        found = list(batches(samples, 3, order))
        rows = torch.arange(7) if order is None else order
        assert torch.equal(torch.cat([batch.index for batch in found]), rows)
        assert [len(batch.index) for batch in found] == [3, 3, 1] if order is None else [3, 2]
        for batch in found:
            assert_same(batch.inputs, INPUTS[batch.index])
            expected = TARGETS[batch.index]
            if name.startswith("named"):
                assert_same(batch.targets, {"a": expected.squeeze(1), "b": INPUTS[batch.index]})
            else:
                assert_same(batch.targets, expected)


def test_going_through_a_dataset_leaves_the_random_state(as_dataset):
    before = torch.get_rng_state()
    list(batches(as_dataset(INPUTS, TARGETS), 3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("targets", [TARGETS[:5], {"a": TARGETS[:5], "b": TARGETS}])
def test_lengths_must_agree(targets):
    with pytest.raises(DataError, match=r"a target for every input. Got 7 inputs and \[5.*\] targets"):
        count((INPUTS, targets))


def test_there_must_be_a_sample(as_dataset):
    for samples in ((INPUTS[:0], TARGETS[:0]), as_dataset(INPUTS[:0], TARGETS[:0])):
        with pytest.raises(DataError, match="no sample"):
            count(samples)


def test_an_epochs_order_is_a_permutation_that_follows_from_seed_and_epoch():
    before = torch.get_rng_state()
    orders = [epoch_order(50, seed, epoch) for seed in (0, 1, 2**30) for epoch in range(3)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(order.sort().values, torch.arange(50)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)
    assert torch.equal(orders[4], epoch_order(50, 1, 1))


def test_map_tensors_reaches_all_tensors_and_nothing_else():
    one = torch.ones(1)
    found = map_tensors({"a": one, "b": [one, (one, "text")], "c": None}, lambda value: value + 1)
    assert found == {"a": 2 * one, "b": [2 * one, (2 * one, "text")], "c": None}


def test_a_list_is_not_taken_for_a_dataset():
    with pytest.raises(DataError, match=r"Got a list: write \(inputs, targets\)"):
        count([torch.zeros(3, 2), torch.zeros(3, 1)])
