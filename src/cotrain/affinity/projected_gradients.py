"""Gradients of all outputs of all tasks for all samples, projected on random directions in a few passes."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cotrain.affinity.directional import directional_derivatives
from cotrain.affinity.layerwise import layerwise_derivatives
from cotrain.affinity.sample_outputs import SampleOutputs
from cotrain.affinity.sign_directions import SignDirections
from cotrain.model import pure_forward, random_state_kept, shared_parameters
from cotrain.task import Batch, Task, TaskSet, as_tasks

__all__ = ["projected_gradients"]


def projected_gradients(
    model: nn.Module,
    tasks: Iterable[Task],
    batch: Batch,
    *,
    directions: int = 64,
    seed: int = 0,
    parameters: Iterable[str] | None = None,
) -> Tensor:
    """Project the gradient of every sample's output for every task on random directions.

    f(theta) [B, T] is one number per sample and task: the logit of a binary task; log(q / (1 - q)) of a multiclass
    task, where q <= 0.999 is the probability of the true class; the output of a regression task. A regression task
    with several dimensions, a custom task and any task with a loss of its own have the sample's loss instead. The
    result is P^T grad f over the shared parameters, where P has entries +-1 / sqrt(directions): inner products are
    kept in expectation, with an error of about 1 / sqrt(directions) of the norms' product (Johnson and
    Lindenstrauss, 1984; used for task affinities in arXiv 2409.06091).

    No gradient by a large parameter is ever formed. One backward pass per task (or per feature, if what the tasks
    share ends in fewer features than there are tasks) gives the derivatives of all samples by the outputs of all
    layers, and the rest are products that serve all tasks; see `layerwise_derivatives`. Otherwise a direction's
    derivative of all B x T numbers is one forward-mode pass, whatever T is. That way is taken if there are more
    backward passes than directions, if they leave more than 512 MB, or if the model is not layers that keep samples
    apart: parameters outside of layers (`nn.MultiheadAttention` among them), recurrent layers, layers whose first
    dimension is not the samples, samples that see each other. Modules without forward mode (custom autograd functions)
    then go by reverse mode, with a warning. The values are the same.

    Signs depend on the seed, the direction's number and the parameter's name alone, so that batches, processes and
    runs can be put together; they are never stored.

    The module is in eval mode meanwhile: no dropout, running statistics. Parameters, buffers, gradients, modes and
    the random state are left as they are.

    Args:
        model: Any module.
        tasks: In the order of the model's packed outputs.
        batch: The samples. Give every batch of a data set with the same seed and directions.
        directions: How many. More are more exact, at proportional cost.
        seed: Of the directions.
        parameters: Names of the parameters to differentiate by. None finds those that two or more tasks share, which
            takes some backward passes: for many batches, give `shared_parameters(model, tasks, batch)`.

    Returns:
        [T, B, directions], float32, NaN where a sample has no label for a task.

    Raises:
        ValueError: If directions is below 1, no parameter is shared, or the model has no parameter of a given name.
    """
    if directions < 1:
        raise ValueError(f"directions must be at least 1. Got {directions}.")
    tasks = as_tasks(tasks)
    with _eval_mode(model):
        chosen = _chosen(model, tasks, batch, parameters)
        sample_outputs = SampleOutputs(tasks, batch.targets)

        def outputs(values: Mapping[str, Tensor]) -> Tensor:
            return tasks.pack(pure_forward(model, values, batch.inputs))

        def numbers(values: Mapping[str, Tensor]) -> Tensor:
            # A module that draws in eval mode, too, draws the same in every pass.
            with random_state_kept():
                return sample_outputs(outputs(values))

        signs = SignDirections(seed, directions, chosen)
        try:
            with random_state_kept():
                derivatives = layerwise_derivatives(model, outputs, sample_outputs, sample_outputs.owner, chosen, signs)
        except RuntimeError:
            derivatives = directional_derivatives(numbers, chosen, signs, sample_outputs.labelled)
    # Scaled here, because 1 / sqrt(directions) is not a number of every parameter's precision.
    projected = derivatives.mul(directions**-0.5).masked_fill(~sample_outputs.labelled, torch.nan)
    return projected.permute(2, 1, 0).contiguous().float()


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Every submodule in eval mode, and back in its own on leaving."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _chosen(model: nn.Module, tasks: TaskSet, batch: Batch, names: Iterable[str] | None) -> Mapping[str, nn.Parameter]:
    if names is None:
        found = shared_parameters(model, tasks, batch)
        if not found:
            raise ValueError(
                f"No trainable parameter serves two or more of the {len(tasks)} tasks, so there is nothing to project"
                " on. Unfreeze the shared layers, or name the parameters to differentiate by in parameters=."
            )
        return found
    own, names = dict(model.named_parameters()), list(names)
    unknown = [name for name in names if name not in own]
    if unknown or not names:
        raise ValueError(f"parameters must be names of the model's parameters, at least one. Got {unknown or names}.")
    return {name: own[name] for name in names}
