"""The baseline that needs no manifold: one network per preference."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from cotrain.pareto.knobs import knobs_of
from cotrain.pareto.preference import Preference, as_preferences
from cotrain.pareto.preference_model import PreferenceModel
from cotrain.task import Outputs, Task, as_tasks

__all__ = ["SeparateNetworks"]

SAME = 1e-4
"""How far apart two preferences may be and still be the same one."""


class SeparateNetworks(PreferenceModel):
    """Networks that were trained apart, each for one preference.

    A grid of weighted sums (`fit` with weights, or `fit_fleet` with one row per preference), or one network that was
    trained with an aggregation, as a front of a single point. Nothing lies between the preferences.

    Args:
        networks: n trained networks.
        tasks: K tasks.
        preferences: [n, K], what each network is for.

    Raises:
        ValueError: If there is not one preference per network.
    """

    def __init__(self, networks: Sequence[nn.Module], tasks: Iterable[Task], preferences: Tensor) -> None:
        tasks = as_tasks(tasks)
        super().__init__(tasks, knobs_of(tasks, None))
        self.networks = nn.ModuleList(networks)
        self.preferences = torch.atleast_2d(as_preferences(preferences, self.names))
        if len(self.preferences) != len(networks):
            raise ValueError(
                f"Every network needs a preference. Got {len(networks)} networks and {len(self.preferences)}."
            )

    def forward(self, inputs: object, preference: Preference) -> Outputs:
        """The outputs of the network for this preference.

        Raises:
            ValueError: If there is none.
        """
        distances = (self.preferences - as_preferences(preference, self.names)).abs().amax(1)
        nearest = int(distances.argmin())
        if distances[nearest] > SAME:
            raise ValueError(
                f"There is a network for each of {self.preferences.tolist()}, and none in between. Got {preference}."
            )
        outputs: Outputs = self.networks[nearest](inputs)
        return outputs
