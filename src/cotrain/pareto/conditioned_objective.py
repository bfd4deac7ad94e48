"""The training of models that compute with the preference: COSMOS and hypernetworks."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import cosine_similarity

from cotrain.pareto.preference_model import PreferenceModel
from cotrain.pareto.rays import Concentration, RaySampler
from cotrain.task import Batch

__all__ = ["ConditionedObjective"]


class ConditionedObjective:
    """The weighted sum of the losses at one random preference per step, less lambda cos(preference, losses).

    Args:
        model: `Cosmos`, `ParetoHypernetwork`, or any other model of a preference that can be differentiated.
        similarity: lambda. 0 for a hypernetwork with linear scalarisation; COSMOS uses 8 on Census and MultiMNIST, and
            without it collapses.
        concentration: Of the Dirichlet distribution of the preferences, a number or one for each name (published: 1).
        seed: Of the preferences.
    """

    def __init__(
        self, model: PreferenceModel, *, similarity: float = 0.0, concentration: Concentration = 1.0, seed: int = 0
    ) -> None:
        self.model = model
        self.similarity = similarity
        self._rays = RaySampler(
            len(model.names), 1, concentration=concentration, stratified=False, corners=0.0, seed=seed
        )

    def backward(self, batch: Batch) -> Tensor:
        """Add the gradient to `.grad`; returns the losses [1, T], without a graph."""
        (preference,) = self._rays.draw()
        losses = self.model.tasks.losses(self.model(batch.inputs, preference), batch.targets)
        weights = self.model.knobs.task_weights(preference).to(losses)
        total = weights @ losses
        if self.similarity:
            total = total - self.similarity * cosine_similarity(weights, losses, dim=0)
        total.backward()
        return losses.detach().unsqueeze(0)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs beside model and optimizer."""
        return {"rays": self._rays.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._rays.load_state_dict(state["rays"])
