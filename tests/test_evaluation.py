import math

import pytest
import torch
from torch import nn

from cotrain import SharedTrunk, Task, TaskSet, evaluate
from cotrain.evaluation import all_targets, evaluation_of, packed_outputs
from cotrain.metrics import task_metrics


@pytest.fixture
def problem(mixed_tasks, mixed_data):
    inputs, targets = mixed_data(53, 0)
    tasks = mixed_tasks.with_units(targets)
    return SharedTrunk(nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5)), tasks, 6), tasks, inputs, targets


def test_losses_and_metrics_are_over_all_labelled_samples_whatever_the_batches(problem):
    model, tasks, inputs, targets = problem
    found = evaluate(model, tasks, (inputs, targets), batch_size=10)
    with torch.no_grad():
        outputs = model.eval()(inputs)
    torch.testing.assert_close(found.losses, tasks.losses(outputs.double(), targets), rtol=1e-5, atol=1e-6)
    for name, metrics in task_metrics(tasks, outputs, targets).items():
        assert found.metrics[name] == pytest.approx(metrics, rel=1e-5)
    assert found.tasks == tasks
    assert found.loss_of("which") == float(found.losses[1])


def test_every_form_of_samples_and_outputs_gives_the_same(problem, as_dataset, assert_same):
    model, tasks, inputs, targets = problem
    by_name = {name: targets[:, number] for number, name in enumerate(tasks.names)}

    class Named(nn.Module):
        def forward(self, batch):
            return {name: model(batch)[:, columns] for name, columns in tasks.slices.items()}

    expected = evaluate(model, tasks, (inputs, targets))
    model.eval()
    for samples in (as_dataset(inputs, targets), (inputs, by_name), as_dataset(inputs, by_name)):
        for module in (model, Named()):
            found = evaluate(module, list(tasks), samples)
            assert_same(found.losses, expected.losses)
            assert_same(found.metrics, expected.metrics)
        assert_same(all_targets(samples), by_name if not isinstance(all_targets(samples), torch.Tensor) else targets)


def test_evaluating_leaves_modes_and_random_state(problem, as_dataset):
    model, tasks, inputs, targets = problem
    model.train()
    model.trunk[0].eval()  # as one does with a pretrained part
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    evaluate(model, tasks, as_dataset(inputs, targets))
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ValueError, match="must give outputs of shape"):
        packed_outputs(model, tasks[:2], (inputs, targets))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)


def test_a_task_without_labels_has_no_loss():
    tasks = TaskSet([Task("a", "binary"), Task("b", "binary")])
    found = evaluation_of(tasks, torch.zeros(3, 2), torch.tensor([[1.0, math.nan]] * 3))
    assert found.losses.tolist() == pytest.approx([math.log(2), math.nan], nan_ok=True)


def test_the_model_that_is_given_is_run_on_the_samples_that_are_given_in_eval_mode_without_autograd(problem):
    _, tasks, inputs, targets = problem
    seen = []

    class Watched(nn.Module):
        def __init__(self, answer: float) -> None:
            super().__init__()
            self.answer = nn.Parameter(torch.tensor(answer))

        def forward(self, batch):
            seen.append((self.answer.item(), self.training, torch.is_grad_enabled(), batch))
            return self.answer.expand(len(batch), tasks.n_outputs)

    for answer, split in ((1.0, slice(0, 30)), (2.0, slice(30, 53))):
        seen.clear()
        found = evaluate(Watched(answer).train(), tasks, (inputs[split], targets[split]))
        assert [case[:3] for case in seen] == [(answer, False, False)]
        assert torch.equal(seen[0][3], inputs[split])
        expected = tasks.losses(torch.full((len(inputs[split]), tasks.n_outputs), answer), targets[split])
        torch.testing.assert_close(found.losses.float(), expected)
        assert not found.losses.requires_grad
