import pytest
import torch
from blends import binary_data
from torch.utils.data import DataLoader, Subset, TensorDataset

from cotrain.errors import DataError
from cotrain.pareto.other_samples import require_other_samples

PAIR = binary_data(2, 20, seed=0)
OTHER = binary_data(2, 20, seed=1)
DATASET = TensorDataset(*PAIR)


@pytest.mark.parametrize(
    ("valid", "test"),
    [
        (PAIR, PAIR),
        (PAIR, tuple(part.clone() for part in PAIR)),
        (PAIR, (PAIR[0].clone(), PAIR[1])),
        (PAIR, DATASET),
        (DATASET, DATASET),
        (DataLoader(DATASET), DataLoader(DATASET, shuffle=True)),
        (DataLoader(DATASET), PAIR),
        (Subset(DATASET, range(10)), DATASET),
        (Subset(DATASET, range(10)), DataLoader(Subset(DATASET, range(9, 20)))),
        (Subset(Subset(DATASET, range(5, 20)), [0, 1]), Subset(DATASET, [6])),
        ((PAIR[0], {"a": PAIR[1][:, 0]}), (PAIR[0], {"a": PAIR[1][:, 0]})),
    ],
)
def test_the_same_samples_are_refused(valid, test):
    for first, second in ((valid, test), (test, valid)):
        with pytest.raises(DataError, match="must not be those it is reported on"):
            require_other_samples(first, second)


@pytest.mark.parametrize(
    ("valid", "test"),
    [
        (PAIR, OTHER),
        (PAIR, (PAIR[0][:10], PAIR[1][:10].clone())),
        (DATASET, TensorDataset(*OTHER)),
        (DataLoader(DATASET), DataLoader(TensorDataset(*OTHER))),
        (Subset(DATASET, range(10)), Subset(DATASET, range(10, 20))),
        ((PAIR[0], {"a": PAIR[1][:, 0]}), (PAIR[0], {"b": PAIR[1][:, 0]})),
    ],
)
def test_other_samples_are_accepted(valid, test):
    require_other_samples(valid, test)


def test_the_error_says_how_many_samples_are_shared():
    with pytest.raises(DataError, match="3 samples are in both subsets"):
        require_other_samples(Subset(DATASET, range(10)), Subset(DATASET, range(7, 20)))


def test_a_dataset_of_ones_own_is_known_by_identity(as_dataset):
    rows = as_dataset(*PAIR)
    with pytest.raises(DataError):
        require_other_samples(rows, DataLoader(rows))
    require_other_samples(rows, as_dataset(*OTHER))
    assert torch.equal(rows.inputs, PAIR[0])
