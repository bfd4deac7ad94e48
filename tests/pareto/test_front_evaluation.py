import pytest
import torch
from blends import binary_data, blend, blend_front
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cotrain import Task, TaskSet
from cotrain.errors import DataError
from cotrain.evaluation import evaluate
from cotrain.pareto.front_evaluation import evaluate_front
from cotrain.pareto.preference import preference_grid

CUSTOM = Task("own", "custom", 2, loss=lambda outputs, targets: (outputs.sum(1) - targets).abs())


class AtPreference(nn.Module):
    """The module that `outputs_at` below is at one preference."""

    def __init__(self, weights, preference):
        super().__init__()
        self.weights, self.preference = weights, preference

    def forward(self, inputs):
        return inputs @ torch.einsum("g,gio->io", self.preference, self.weights)


@pytest.fixture
def mixture(mixed_tasks, mixed_data):
    """Tasks of all four kinds, samples with missing labels, and a linear model with a preference."""
    inputs, targets = mixed_data(100, 0)
    targets = torch.cat([targets, inputs.sum(1, keepdim=True)], dim=1)
    tasks = TaskSet([*mixed_tasks, CUSTOM]).with_units(targets)
    weights = torch.randn(4, 4, tasks.n_outputs, generator=torch.Generator().manual_seed(1))

    def outputs_at(inputs, preferences):
        return torch.einsum("bi,kg,gio->kbo", inputs, preferences, weights)

    return tasks, (inputs, targets), weights, outputs_at


def test_equals_a_separate_evaluation_at_every_preference(mixture):
    tasks, samples, weights, outputs_at = mixture
    grid = preference_grid(9, tasks.names)
    front = evaluate_front(outputs_at, tasks, samples, grid, tasks.names, batch_size=32)
    assert front.metric_names == ("accuracy", "accuracy", "mae", "loss")
    for number, preference in enumerate(grid):
        alone = evaluate(AtPreference(weights, preference), tasks, samples)
        torch.testing.assert_close(front.losses[number], alone.losses, rtol=1e-5, atol=1e-6)
        for column, (task, metric) in enumerate(zip(tasks, front.metric_names, strict=True)):
            expected = alone.loss_of(task.name) if metric == "loss" else alone.metrics[task.name][metric]
            assert float(front.metrics[number, column]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_do_not_matter(mixture, batch_size):
    tasks, samples, _, outputs_at = mixture
    grid = preference_grid(9, tasks.names)
    whole = evaluate_front(outputs_at, tasks, samples, grid, tasks.names)
    parts = evaluate_front(outputs_at, tasks, samples, grid, tasks.names, batch_size=batch_size)
    loader = DataLoader(TensorDataset(*samples), batch_size=batch_size)
    loaded = evaluate_front(outputs_at, tasks, loader, grid, tasks.names)
    for other in (parts, loaded):
        torch.testing.assert_close(other.losses, whole.losses, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(other.metrics, whole.metrics, rtol=1e-5, atol=1e-6)
        assert other.scores.digest == whole.scores.digest


def test_every_sample_is_read_once(as_dataset):
    class Counting(as_dataset):
        reads = 0

        def __getitem__(self, number):
            Counting.reads += 1
            return super().__getitem__(number)

    samples = Counting(*binary_data(2, 50))
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary")])
    front = evaluate_front(blend, tasks, samples, preference_grid(11, tasks.names), tasks.names, batch_size=8)
    assert len(front) == 11
    assert Counting.reads == 50


def test_targets_by_name_equal_those_in_columns(mixture, as_dataset):
    tasks, (inputs, targets), _, outputs_at = mixture
    grid = preference_grid(9, tasks.names)
    named = {task.name: targets[:, number] for number, task in enumerate(tasks)}
    columns = evaluate_front(outputs_at, tasks, (inputs, targets), grid, tasks.names)
    for samples in ((inputs, named), as_dataset(inputs, named)):
        front = evaluate_front(outputs_at, tasks, samples, grid, tasks.names, batch_size=30)
        torch.testing.assert_close(front.metrics, columns.metrics, rtol=1e-6, atol=1e-6)


def test_a_class_without_a_label_may_be_minus_100():
    tasks = TaskSet([Task("which", "multiclass", 3)])
    outputs = torch.tensor([[3.0, 0, 0], [0, 3, 0], [0, 0, 3]])
    front = evaluate_front(
        lambda inputs, _: outputs.unsqueeze(0), tasks, (torch.zeros(3, 1), torch.tensor([[0.0], [-100], [1]])),
        torch.ones(1, 1), tasks.names,
    )  # fmt: skip
    assert front.metrics.item() == 0.5


def test_a_wide_regression_target_is_measured_in_its_own_units():
    tasks = TaskSet([Task("place", "regression", 2, location=10.0, scale=2.0)])
    targets = {"place": torch.tensor([[10.0, 14.0], [12.0, torch.nan]])}
    front = evaluate_front(
        lambda inputs, _: torch.zeros(1, 2, 2), tasks, (torch.zeros(2, 1), targets), torch.ones(1, 1), tasks.names
    )
    assert front.metrics.item() == 2.0  # |10 - 10| and |10 - 14| of the one sample whose dimensions are all labelled
    assert front.losses.item() == 2.0  # (0 + 4) / 2


def test_a_task_without_labels_is_nan_and_the_rest_goes_on():
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary"), Task("c", "binary")])
    inputs, targets = binary_data(3, 60)
    targets[:, 2] = torch.nan
    front = evaluate_front(blend, tasks, (inputs, targets), preference_grid(None, tasks.names), tasks.names)
    assert front.metrics[:, 2].isnan().all()
    assert front.losses[:, 2].isnan().all()
    assert not front.metrics[:, :2].isnan().any()
    assert front.nondominated().any()
    assert front.order_violations().total > 0
    low, _ = front.intervals(draws=20)
    assert low[:, 2].isnan().all()
    assert not low[:, :2].isnan().any()
    assert front.hypervolume(0.0, tasks=["a", "b"]) > 0
    with pytest.raises(ValueError, match="without labels"):
        front.hypervolume(0.0)
    with pytest.raises(ValueError, match="not known at every point"):
        front.choose(minimize="c")
    assert front.choose(minimize="a").feasible
    assert "-" in str(front)


def test_evaluation_leaves_the_random_state():
    samples = TensorDataset(*binary_data(2, 20))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary")])
    evaluate_front(blend, tasks, DataLoader(samples, shuffle=True), preference_grid(3, tasks.names), tasks.names)
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_is_eight_bytes_per_score():
    scores = blend_front(n=40).scores
    assert sum(values.numel() * values.element_size() for values in (scores.losses, scores.metrics)) == 8 * 11 * 40 * 2


def test_bad_input_is_refused():
    tasks = TaskSet([Task("a", "binary"), Task("b", "regression")])
    samples = binary_data(2, 10)
    grid = preference_grid(3, tasks.names)
    with pytest.raises(ValueError, match="units of regression tasks"):
        evaluate_front(blend, tasks, samples, grid, tasks.names)
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary")])
    with pytest.raises(ValueError, match=r"must give \[3, batch, 2\]"):
        evaluate_front(lambda inputs, _: inputs, tasks, samples, grid, tasks.names)
    with pytest.raises(DataError, match="no sample"):
        evaluate_front(blend, tasks, DataLoader(TensorDataset(*(part[:0] for part in samples))), grid, tasks.names)
