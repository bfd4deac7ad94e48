"""What is shared: a trunk with heads for many tasks, and which parameters of any module serve which tasks."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cotrain.task import Batch, Outputs, Task, as_tasks

__all__ = ["SharedTrunk", "pure_forward", "random_state_kept", "shared_parameters"]


class SharedTrunk(nn.Module):
    """Hard parameter sharing: one trunk, one linear head per task, all heads as one matrix product.

    A thousand tasks cost one product [B, F] x [F, O], not a thousand layers.

    Args:
        trunk: Any module from inputs to features [B, n_features].
        tasks: The tasks, in the order of the outputs.
        n_features: Width of the trunk's output.

    Shape:
        inputs of the trunk -> packed outputs [B, sum of n_outputs].
    """

    def __init__(self, trunk: nn.Module, tasks: Iterable[Task], n_features: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.Linear(n_features, as_tasks(tasks).n_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Packed outputs [B, sum of n_outputs]."""
        features = self.trunk(inputs)
        if features.dim() != 2 or features.shape[1] != self.heads.in_features:
            raise ValueError(
                f"The trunk must give features of shape [batch, {self.heads.in_features}] (n_features)."
                f" Got {list(features.shape)}. End it with nn.Flatten(), or correct n_features."
            )
        outputs: Tensor = self.heads(features)
        return outputs


def shared_parameters(model: nn.Module, tasks: Iterable[Task], batch: Batch) -> dict[str, nn.Parameter]:
    """Find which parameters of any module serve two or more tasks, from its autograd graph.

    NaN is sent backwards from the outputs of some tasks and 0 from the others: through linear operations NaN
    marks exactly what those tasks depend on, also through weights that are still zero, and independently of the
    labels. Two markings per bit of the task's number separate every pair of tasks, so T tasks cost
    2 ceil(log2 T) backward passes (20 for 1,000), and a tensor that holds the parameters of many tasks side by
    side (the heads of `SharedTrunk`, an embedding row per task) is told from one that they share. A unit that is
    inactive for the whole batch passes nothing on.

    Args:
        model: Any module; parameters, buffers, gradients and the random state are left as they are.
        tasks: The tasks, in the order of the model's packed outputs.
        batch: A few samples; its targets are not used.

    Returns:
        The shared parameters by name, in the order of `named_parameters` (a tied parameter once); frozen and
        unused parameters are not among them.
    """
    tasks = as_tasks(tasks)
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not parameters:
        return {}
    with torch.enable_grad(), random_state_kept():
        outputs = tasks.pack(pure_forward(model, parameters, batch.inputs))
    if not outputs.requires_grad:
        return {}
    owner = torch.repeat_interleave(
        torch.arange(len(tasks), device=outputs.device),
        torch.tensor([task.n_outputs for task in tasks], device=outputs.device),
    )
    rest = dict(parameters)  # The first marking finds nearly all, and passes that end at the heads are short.
    for bit in range((len(tasks) - 1).bit_length()):
        if not rest:
            break
        has_bit = (owner >> bit) % 2 == 1
        with_bit = _marked(outputs, rest, has_bit)
        without_bit = _marked(outputs, rest, ~has_bit)
        rest = {name: value for name, value in rest.items() if not bool((with_bit[name] & without_bit[name]).any())}
    return {name: value for name, value in parameters.items() if name not in rest}


def pure_forward(model: nn.Module, parameters: Mapping[str, Tensor], inputs: object) -> Outputs:
    """Run the module with other parameters and with copies of its buffers, so that nothing of it changes.

    Args:
        model: Any module.
        parameters: Values by name; parameters that are not named are the module's own. Tied weights stay tied.
        inputs: What the model takes.

    Returns:
        The module's outputs; running statistics that the forward pass updated are thrown away.
    """
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    outputs: Outputs = functional_call(model, {**buffers, **parameters}, (inputs,))
    return outputs


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Put the random state back on leaving: CPU, and every CUDA device that was in use."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        yield


def _marked(outputs: Tensor, parameters: Mapping[str, Tensor], columns: Tensor) -> dict[str, Tensor]:
    """Where the gradient of each parameter depends on the marked output columns (boolean, parameter's shape)."""
    mark = torch.where(columns, torch.nan, 0.0).to(outputs.dtype).expand_as(outputs)
    with torch.autograd.set_detect_anomaly(False):  # which would refuse the marks
        gradients = torch.autograd.grad(outputs, list(parameters.values()), mark, retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(value, dtype=torch.bool) if gradient is None else torch.isnan(gradient.to_dense())
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
    }
