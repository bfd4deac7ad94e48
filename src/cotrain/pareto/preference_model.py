"""What every model with a preference has in common, whatever the preference does in it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from cotrain.pareto.front import Front
from cotrain.pareto.front_choice import FrontChoice
from cotrain.pareto.front_evaluation import FrontSamples, evaluate_front
from cotrain.pareto.knobs import Knobs
from cotrain.pareto.other_samples import require_other_samples
from cotrain.pareto.preference import Preference, preference_grid
from cotrain.task import Outputs, TaskSet

__all__ = ["PreferenceModel", "ReportedChoice"]


@dataclass(frozen=True)
class ReportedChoice:
    """A preference, and what became of it.

    Args:
        choice: Made on validation samples.
        test: The front of this one point on other samples.
    """

    choice: FrontChoice
    test: Front

    def __str__(self) -> str:
        columns = {name: float(values[0]) for name, values in self.test.columns().items()}
        return f"{self.choice}\nOn test samples: {', '.join(f'{name} {value:.4g}' for name, value in columns.items())}"


class PreferenceModel(nn.Module, ABC):
    """A module that is called with inputs and a preference, and can be looked at along a front.

    Args:
        tasks: T tasks, in the order of the outputs.
        knobs: What a preference is over.
    """

    def __init__(self, tasks: TaskSet, knobs: Knobs) -> None:
        super().__init__()
        self.tasks = tasks
        self.knobs = knobs

    @property
    def names(self) -> tuple[str, ...]:
        """What a preference is over: the tasks, or the groups."""
        return self.knobs.names

    @abstractmethod
    def forward(self, inputs: object, preference: Preference) -> Outputs:
        """The outputs at a preference: [K] non-negative and of sum 1, or {name: share}."""

    def front(
        self, samples: FrontSamples, preferences: int | Preference | None = None, *, batch_size: int = 1024
    ) -> Front:
        """Losses and metrics at many preferences, in one pass over the samples.

        Args:
            samples: A Dataset or DataLoader of (inputs, targets), or a pair of tensors.
            preferences: How many, or which; see `preference_grid`.
            batch_size: Samples per forward pass.
        """
        grid = preference_grid(preferences, self.names)
        return self._front(samples, grid, batch_size, [partial(self, preference=point) for point in grid])

    def choose(
        self,
        valid: FrontSamples,
        test: FrontSamples,
        *,
        minimize: str | None = None,
        maximize: str | None = None,
        subject_to: Mapping[str, str] | None = None,
        preferences: int | Preference | None = None,
    ) -> "ReportedChoice":
        """Choose a preference on validation samples, and report it on others.

        Args:
            valid: What it is chosen on.
            test: What it is reported on; the same samples are refused.
            minimize: See `Front.choose`.
            maximize: Instead of `minimize`.
            subject_to: Bounds such as {"age": ">= 0.82"}.
            preferences: At which the front is looked at on the validation samples; see `preference_grid`.

        Raises:
            DataError: If the samples are the same, or overlap.
            ValueError: If a wish or bound cannot be read.
        """
        require_other_samples(valid, test)
        choice = self.front(valid, preferences).choose(
            minimize=minimize, maximize=maximize, subject_to=subject_to or {}
        )
        return ReportedChoice(choice, self.front(test, choice.preference))

    def _front(
        self, samples: FrontSamples, grid: Tensor, batch_size: int, models: Sequence[Callable[[object], Outputs]]
    ) -> Front:
        """The front of one model per point of the grid, in eval mode and without autograd."""

        def outputs_at(inputs: object, _: Tensor) -> Tensor:
            return torch.stack([self.tasks.pack(model(inputs)) for model in models])

        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return evaluate_front(
                    outputs_at, self.tasks, samples, grid, self.names, shares=self.knobs.shares, batch_size=batch_size
                )
        finally:
            self.train(was_training)
