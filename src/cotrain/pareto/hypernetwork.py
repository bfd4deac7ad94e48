"""The baseline Pareto hypernetwork: a network that makes the weights (Navon et al., ICLR 2021, arXiv 2010.04104)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cotrain.pareto.knobs import knobs_of
from cotrain.pareto.members import stored
from cotrain.pareto.preference import Preference, as_preferences
from cotrain.pareto.preference_model import PreferenceModel
from cotrain.pareto.template import Template, require_mappable
from cotrain.task import Outputs, Task, as_tasks

__all__ = ["ParetoHypernetwork"]


class ParetoHypernetwork(PreferenceModel):
    """All weights of a module, made from the preference by two hidden layers and one linear layer per parameter.

    At the start the weights are the module's own at every preference, plus a difference that follows the
    preference: a hypernetwork with the usual initialisation makes weights of a wrong scale. Every layer of it is used
    (in the published code for this data the head's first layer is not).
    Train it with `ConditionedObjective(model)`.

    Args:
        module: Any module without running statistics; it is copied.
        tasks: K tasks.
        width: Of the hidden layers (published: 100).

    Raises:
        ValueError: If the module has running statistics, which belong to one preference each.
    """

    def __init__(self, module: nn.Module, tasks: Iterable[Task], *, width: int = 100) -> None:
        require_mappable(module)
        tasks = as_tasks(tasks)
        super().__init__(tasks, knobs_of(tasks, None))
        self.template = Template(module)
        if self.template.statistics:
            raise ValueError(
                f"A hypernetwork has one set of buffers, and {self.template.statistics[0]} belongs to one preference."
                " Take a module without BatchNorm, or a ParetoManifold."
            )
        self.hidden = nn.Sequential(nn.Linear(len(tasks), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        values = {name: value.detach() for name, value in module.named_parameters()}
        self.weights = nn.ParameterDict(
            {stored(name): nn.Parameter(torch.randn(value.numel(), width) * 1e-3) for name, value in values.items()}
        )
        self.biases = nn.ParameterDict({stored(name): nn.Parameter(value.clone()) for name, value in values.items()})
        for name, value in module.named_buffers():
            self.register_buffer(stored(name), value.detach().clone())

    def forward(self, inputs: object, preference: Preference) -> Outputs:
        """The outputs at a preference [K]."""
        reference = next(iter(self.biases.values()))
        features = self.hidden(as_preferences(preference, self.names).to(reference))
        tensors: dict[str, Tensor] = {name: self.get_buffer(stored(name)) for name in self.template.buffer_names}
        for name, shape in self.template.parameter_names.items():
            difference = self.weights[stored(name)] @ features
            tensors[name] = self.biases[stored(name)] + difference.view(shape)
        return self.template.run(tensors, inputs, training=self.training)
