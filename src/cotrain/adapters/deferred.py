"""A Transference that is made when a trainer's optimizer is known."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cotrain.affinity import Transference
from cotrain.task import Batch, Targets

__all__ = ["DeferredTransference", "MakeTransference", "unnumbered"]

MakeTransference: TypeAlias = Callable[[nn.Module, Optimizer], Transference]
"""From the model in training and its optimizer, which a trainer makes itself, to the instrument."""


class DeferredTransference:
    """Measures in trainings whose optimizer is made by a trainer, one training after the other.

    A further training of the same model, by the same trainer or from a checkpoint, has a new optimizer. A new
    Transference is made for it, and goes on from what was observed before.

    Args:
        make: Called with the model and the optimizer when the first step is due, and for every new optimizer.
    """

    def __init__(self, make: MakeTransference) -> None:
        self._make = make
        self._model: nn.Module | None = None
        self._optimizer: Optimizer | None = None
        self._transference: Transference | None = None
        self._state: Mapping[str, Any] = {}

    @property
    def transference(self) -> Transference:
        """The instrument.

        Raises:
            ValueError: If no step was due so far.
        """
        if self._transference is None:
            raise ValueError("The Transference is made at the first step of a training. Train with the callback first.")
        return self._transference

    def observe(self, model: nn.Module, optimizer: Optimizer, batch: Batch) -> None:
        """Measure on a batch, before the optimizer's step.

        Raises:
            ValueError: If it measured another model before.
        """
        if self._model is not None and model is not self._model:
            raise ValueError("This callback has measured another model before. Make a new callback for every model.")
        if self._transference is None or optimizer is not self._optimizer:
            state = self.state_dict()
            self._transference = self._make(model, optimizer)
            self._model, self._optimizer, self._state = model, optimizer, {}
            if state:
                self._transference.load_state_dict(state)
        self._transference.observe(batch)

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far; empty if that is nothing."""
        return dict(self._state) if self._transference is None else self._transference.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state, now or when the instrument is made.

        Raises:
            StudyError: If the state is of other tasks or another estimator; at the first step if that is to come.
        """
        if self._transference is None:
            self._state = state
        else:
            self._transference.load_state_dict(state)


def unnumbered(inputs: object, targets: Targets) -> Batch:
    """A batch of samples whose positions in the training set are not known, and not needed here: index is -1."""
    some = targets if isinstance(targets, Tensor) else next(iter(targets.values()))
    return Batch(torch.full((len(some),), -1, device=some.device), inputs, targets)  # type: ignore[arg-type]
