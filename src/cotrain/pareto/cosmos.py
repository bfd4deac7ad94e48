"""The baseline COSMOS: the preference is a part of the input (Ruchte and Grabocka, arXiv 2103.13392)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cotrain.pareto.knobs import knobs_of
from cotrain.pareto.preference import Preference, as_preferences
from cotrain.pareto.preference_model import PreferenceModel
from cotrain.task import Outputs, Task, as_tasks

__all__ = ["Cosmos"]


class Cosmos(PreferenceModel):
    """A module whose input is widened by the preference.

    Train it with `ConditionedObjective(model, similarity=8)`.

    Args:
        module: Takes inputs [B, D + K], or images [B, C + K, height, width]: the preference is put behind the columns,
            or added as constant channels. K is the number of tasks.
        tasks: K tasks.
    """

    def __init__(self, module: nn.Module, tasks: Iterable[Task]) -> None:
        tasks = as_tasks(tasks)
        super().__init__(tasks, knobs_of(tasks, None))
        self.module = module

    def forward(self, inputs: object, preference: Preference) -> Outputs:
        """The outputs at a preference [K].

        Raises:
            TypeError: If the inputs are not one tensor.
        """
        if not isinstance(inputs, Tensor):
            raise TypeError(f"COSMOS widens one tensor of inputs by the preference. Got {type(inputs).__name__}.")
        point = as_preferences(preference, self.names)
        inputs = inputs if inputs.is_floating_point() else inputs.to(point.dtype)
        point = point.to(inputs)
        columns = point.view(1, -1, *[1] * (inputs.dim() - 2)).expand(len(inputs), -1, *inputs.shape[2:])
        outputs: Outputs = self.module(torch.cat([inputs, columns], dim=1))
        return outputs
