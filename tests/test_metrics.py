import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics import Metric
from torchmetrics.classification import BinaryAveragePrecision
from torchmetrics.functional.classification import binary_average_precision, multiclass_cohen_kappa
from torchmetrics.functional.regression import pearson_corrcoef

from cotrain import Task, TaskSet
from cotrain.kernels import NO_CLASS
from cotrain.metrics import own_metric_name, primary_metric, task_metrics


def labels(n: int, n_classes: int, generator: torch.Generator) -> torch.Tensor:
    target = torch.randint(0, n_classes, (n,), generator=generator).float()
    kind = torch.rand(n, generator=generator)
    return target.masked_fill(kind < 0.15, math.nan).masked_fill(kind > 0.85, NO_CLASS)


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 4))
def test_binary_metrics_are_those_of_scikit_learn(seed, n, n_tasks):
    generator = torch.Generator().manual_seed(seed)
    tasks = TaskSet(Task(f"t{number}", "binary") for number in range(n_tasks))
    outputs = torch.randn(n, n_tasks, generator=generator).round(decimals=1)  # with ties
    targets = torch.stack([labels(n, 2, generator) for _ in tasks], dim=1)
    found = task_metrics(tasks, outputs, targets)
    for number, name in enumerate(tasks.names):
        column = targets[:, number]
        known = ~torch.isnan(column) & (column != NO_CLASS)
        truth, score = column[known].numpy(), torch.sigmoid(outputs[known, number]).numpy()
        if len(np.unique(truth)) < 2:
            assert math.isnan(found[name]["auroc"])
            assert math.isnan(found[name]["balanced_accuracy"])
            continue
        guess = score > 0.5
        assert found[name] == pytest.approx(
            {
                "accuracy": sk.accuracy_score(truth, guess),
                "balanced_accuracy": sk.balanced_accuracy_score(truth, guess),
                "predicted_positive": guess.mean(),
                "f1": sk.f1_score(truth, guess, zero_division=0.0),
                "auroc": sk.roc_auc_score(truth, score),
            }
        )


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(2, 5))
def test_multiclass_metrics_are_those_of_scikit_learn(seed, n, n_classes):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n, n_classes, generator=generator)
    target = labels(n, n_classes, generator)
    found = task_metrics(TaskSet([Task("t", "multiclass", n_classes)]), outputs, target.unsqueeze(1))["t"]
    known = ~torch.isnan(target) & (target != NO_CLASS)
    if not known.any():
        assert all(math.isnan(value) for value in found.values())
        return
    truth, guess = target[known].numpy(), outputs[known].argmax(1).numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        warnings.filterwarnings("ignore", message="A single label was found")
        expected = {
            "accuracy": sk.accuracy_score(truth, guess),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, guess),
        }
    assert found == pytest.approx(expected)


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 3))
def test_regression_metrics_are_those_of_scikit_learn_in_original_units(seed, n, width):
    generator = torch.Generator().manual_seed(seed)
    task = Task("t", "regression", width, location=1000.0, scale=50.0)
    outputs = torch.randn(n, width, generator=generator)
    values = 1000 + 50 * torch.randn(n, width, generator=generator)
    missing = torch.rand(n, width, generator=generator) < 0.2
    found = task_metrics(TaskSet([task]), outputs, {"t": values.masked_fill(missing, math.nan)})["t"]
    known = ~missing.any(1)
    if not known.any():
        assert all(math.isnan(found[name]) for name in ("mae", "rmse", "r2"))
        return
    truth, guess = values[known].numpy(), (1000 + 50 * outputs[known]).numpy()
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, guess), rel=1e-4)
    assert found["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(truth, guess)), rel=1e-4)
    if len(truth) > 1:
        assert found["r2"] == pytest.approx(sk.r2_score(truth, guess), rel=1e-3, abs=1e-3)
    else:
        assert math.isnan(found["r2"])


def test_a_single_class_has_no_auroc_and_no_warning():
    tasks = TaskSet([Task("ones", "binary"), Task("zeros", "binary"), Task("none", "binary")])
    targets = torch.tensor([[1.0, 0.0, math.nan]] * 3)
    found = task_metrics(tasks, torch.tensor([[1.0, -1.0, 0.0]] * 3), targets)
    assert [math.isnan(found[name]["auroc"]) for name in tasks.names] == [True] * 3
    assert [found[name]["accuracy"] for name in ("ones", "zeros")] == [1.0, 1.0]
    assert math.isnan(found["none"]["accuracy"])


def test_a_task_of_nan_leaves_the_metrics_of_the_others_alone():
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary")])
    outputs = torch.tensor([[2.0, 1.0], [-2.0, 1.0]])
    targets = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    expected = task_metrics(tasks, outputs, targets)["a"]
    outputs[:, 1] = torch.nan
    found = task_metrics(tasks, outputs, targets)["a"]
    assert found == expected


def test_f1_is_zero_without_a_positive_and_says_why():
    found = task_metrics(TaskSet([Task("t", "binary")]), torch.full((3, 1), -1.0), torch.tensor([[1.0], [0.0], [0.0]]))
    assert found["t"]["f1"] == 0.0
    assert found["t"]["predicted_positive"] == 0.0
    found = task_metrics(TaskSet([Task("t", "binary")]), torch.full((3, 1), -1.0), torch.zeros(3, 1))
    assert found["t"]["f1"] == 0.0


def test_unknown_units_are_an_error():
    with pytest.raises(ValueError, match=r"units of regression tasks \['r'\] are not known.*result.tasks"):
        task_metrics(TaskSet([Task("r", "regression")]), torch.zeros(2, 1), torch.zeros(2, 1))


def test_own_metrics_get_labelled_samples_in_the_form_torchmetrics_wants():
    def spread(predictions, targets):
        return predictions.max() - targets.min()

    tasks = TaskSet(
        [
            Task("b", "binary", metric=binary_average_precision),
            Task("m", "multiclass", 3, metric=lambda p, t: multiclass_cohen_kappa(p, t, num_classes=3)),
            Task("r", "regression", location=5.0, scale=2.0, metric=pearson_corrcoef),
            Task("c", "custom", loss=lambda outputs, targets: outputs.squeeze(1) - targets, metric=spread),
        ]
    )
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(12, 6, generator=generator)
    targets = torch.stack([labels(12, 2, generator), labels(12, 3, generator), *torch.randn(2, 12)], dim=1)
    targets[0, 2:] = math.nan
    found = task_metrics(tasks, outputs, targets)
    known = [~torch.isnan(column) & (column != NO_CLASS) for column in targets.T]
    assert found["b"]["binary_average_precision"] == pytest.approx(
        sk.average_precision_score(targets[known[0], 0], torch.sigmoid(outputs[known[0], 0]))
    )
    assert found["m"]["<lambda>"] == pytest.approx(
        sk.cohen_kappa_score(targets[known[1], 1], outputs[known[1], 1:4].argmax(1)), abs=1e-6
    )
    assert found["r"]["pearson_corrcoef"] == pytest.approx(
        np.corrcoef(outputs[known[2], 4], targets[known[2], 2])[0, 1], abs=1e-5
    )
    assert found["c"] == {"spread": pytest.approx(float(outputs[known[3], 5].max() - targets[known[3], 3].min()))}


def test_a_metric_object_keeps_no_state_between_calls():
    metric = BinaryAveragePrecision()
    tasks = TaskSet([Task("b", "binary", metric=metric)])
    outputs, targets = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([[1.0], [0.0], [0.0]])
    first = task_metrics(tasks, outputs, targets)
    assert task_metrics(tasks, -outputs, targets) != first
    assert task_metrics(tasks, outputs, targets) == first
    assert isinstance(metric, Metric)
    assert metric.update_count == 0


@pytest.mark.parametrize(
    ("task", "name", "names"),
    [
        (Task("t", "binary"), "auroc", {"accuracy", "balanced_accuracy", "predicted_positive", "f1", "auroc"}),
        (Task("t", "multiclass", 2), "accuracy", {"accuracy", "balanced_accuracy"}),
        (Task("t", "regression", location=0.0, scale=1.0), "mae", {"mae", "rmse", "r2"}),
        (Task("t", "regression", location=0.0, scale=1.0, metric=pearson_corrcoef), "pearson_corrcoef",
         {"mae", "rmse", "r2", "pearson_corrcoef"}),
        (Task("t", "custom", loss=lambda outputs, targets: targets), "loss", set()),
        (Task("t", "binary", metric=BinaryAveragePrecision()), "BinaryAveragePrecision",
         {"accuracy", "balanced_accuracy", "predicted_positive", "f1", "auroc", "BinaryAveragePrecision"}),
    ],
)  # fmt: skip
def test_a_task_without_labels_has_its_metrics_with_nan(task, name, names):
    assert primary_metric(task) == name
    found = task_metrics(TaskSet([task]), torch.zeros(2, task.n_outputs), torch.full((2, 1), math.nan))["t"]
    assert set(found) == names
    assert all(math.isnan(value) for metric, value in found.items() if metric != "f1")


def test_a_metric_without_a_name_is_called_by_its_class():
    assert own_metric_name(Task("t", "binary", metric=BinaryAveragePrecision())) == "BinaryAveragePrecision"
    assert own_metric_name(Task("t", "binary", metric=pearson_corrcoef)) == "pearson_corrcoef"
