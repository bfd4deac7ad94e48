from dataclasses import replace

import pytest
import torch
from small_study import give_data, small_config

from cotrain.data import MultiTaskData, Split, make_planted_tasks
from cotrain.errors import ArgumentsError
from cotrain.study import StudyConfig
from cotrain.study.setting import QUICK_SAMPLES, Setting


def data_of(n_train: int) -> MultiTaskData:
    """Rows that hold their own number."""
    data = make_planted_tasks(2, 1, n_samples=50, n_features=1)
    numbers = torch.arange(n_train, dtype=torch.float32)
    return replace(data, train=Split(numbers.unsqueeze(1), torch.stack([numbers, numbers], dim=1)))


@pytest.mark.parametrize("check", ["none", "quick", "full"])
@pytest.mark.parametrize("n_train", [QUICK_SAMPLES - 1, QUICK_SAMPLES, QUICK_SAMPLES + 1000])
def test_only_a_quick_check_leaves_samples_out(check, n_train):
    setting = Setting(StudyConfig("planted", check=check), data_of(n_train))
    inputs, targets = setting.check_train
    assert len(inputs) == (n_train if check == "full" else min(n_train, QUICK_SAMPLES))
    assert len(inputs.unique()) == len(inputs)
    assert torch.equal(inputs.flatten(), targets[:, 0])


def test_the_quick_choice_follows_from_the_seed():
    data = data_of(QUICK_SAMPLES + 1000)
    first, again, other = (
        Setting(StudyConfig("planted", check="quick", seed=seed), data).check_train[0] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_data_are_trained_in_fewer_epochs_of_larger_batches_unless_said_otherwise():
    small, large = (Setting(StudyConfig("planted"), data_of(n)) for n in (10_000, 10_001))
    assert small.epochs > large.epochs
    assert small.batch_size < large.batch_size
    said = Setting(StudyConfig("planted", epochs=7, batch_size=9), data_of(10_001))
    assert (said.epochs, said.batch_size) == (7, 9)


def test_loaded_data_know_the_units_of_regression_targets(monkeypatch):
    data = make_planted_tasks(2, 1, n_samples=100, kinds="regression")
    give_data(monkeypatch, data)
    tasks = Setting.load(small_config("planted")).data.tasks
    for number, task in enumerate(tasks):
        assert task.location == pytest.approx(float(data.train.targets[:, number].mean()), abs=1e-5)
        assert task.scale == pytest.approx(float(data.train.targets[:, number].std(correction=0)), rel=1e-4)


def test_a_network_that_does_not_fit_the_data_is_refused_at_once(monkeypatch):
    give_data(monkeypatch, make_planted_tasks(2, 1, n_samples=50))
    with pytest.raises(ArgumentsError, match="network cnn needs images"):
        Setting.load(small_config("planted", network="cnn"))


@pytest.mark.parametrize(("budget", "max_size", "holds"), [(3, 4, True), (3, 3, False), (2, 5, False), (2, 6, True)])
def test_networks_that_cannot_hold_all_tasks_are_refused_before_anything_is_trained(
    monkeypatch, budget, max_size, holds
):
    give_data(monkeypatch, make_planted_tasks(12, 3, n_samples=60))
    config = small_config("planted", targets=None, method="search", budget=budget, max_size=max_size)
    if holds:
        assert len(Setting.load(config).data.tasks) == 12
        return
    with pytest.raises(ArgumentsError, match=r"there are 12. Raise --budget to .* or --max_size to"):
        Setting.load(config)
