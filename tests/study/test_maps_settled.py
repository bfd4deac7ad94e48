from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from cotrain import SharedTrunk, fit
from cotrain.affinity import DataMap, task_features
from cotrain.data import make_planted_tasks
from cotrain.grouping import adjusted_rand_index, cluster_tasks
from cotrain.study import MapsSettled

EPOCHS = 30


@pytest.fixture(scope="module")
def data():
    return make_planted_tasks(12, 3, n_samples=600, label_noise=[0.0] * 6 + [0.2] * 6)


def clusters(maps):
    features = task_features(maps, "standardised").matrix.numpy()
    return cluster_tasks(features, maps.tasks, 3, n_init=3).labels


def model_of(data):
    torch.manual_seed(0)
    return SharedTrunk(nn.Sequential(nn.Linear(10, 32), nn.ReLU()), data.tasks, 32)


def test_a_training_that_only_measures_stops_once_two_windows_agree(data):
    data_map = DataMap(len(data.train), data.tasks, window="epochs", snapshots=range(1, EPOCHS, 2), epochs=EPOCHS)
    settled = MapsSettled(data_map, clusters)
    fit(
        model_of(data), data.tasks, data.train.pair, data.valid.pair, epochs=EPOCHS, batch_size=32, patience=None,
        instruments=[data_map], stop_when=settled,
    )  # fmt: skip
    assert 4 <= data_map.epochs < EPOCHS
    with pytest.warns(UserWarning, match=f"ended after {data_map.epochs} epochs, before the snapshots"):
        windows = [clusters(maps) for maps in data_map.result().snapshots]
    agreements = [adjusted_rand_index(*pair) for pair in pairwise(windows)]
    assert agreements[-1] > 0.95 >= max(agreements[:-1], default=0)
    assert adjusted_rand_index(windows[-1], np.array(data.groups)) == 1


def test_nothing_is_said_between_the_ends_of_windows(data):
    data_map = DataMap(len(data.train), data.tasks, window="epochs", snapshots=[1, 3], epochs=4)
    settled = MapsSettled(data_map, lambda maps: np.arange(len(maps.tasks)))
    answers = []
    for _ in range(4):
        data_map.record(torch.arange(len(data.train)), torch.zeros(len(data.train), 12), data.train.targets)
        data_map.end_epoch()
        answers.append(settled())
    assert answers == [False, False, False, True]


@pytest.mark.parametrize("options", [{}, {"window": "epochs", "snapshots": [4], "epochs": 6}])
def test_windows_that_cannot_be_compared_are_refused(data, options):
    with pytest.raises(ValueError, match=r'give the DataMap window="epochs" and two or more snapshots\. Got window'):
        MapsSettled(DataMap(len(data.train), data.tasks, **options), clusters)
