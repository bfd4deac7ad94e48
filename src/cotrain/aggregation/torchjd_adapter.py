"""TorchJD's aggregators and scalarizers as ways to combine gradients, with what they lack done here.

Everything that is imported from TorchJD is imported in this module, and by public names only.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from cotrain.aggregation.aggregation import (
    Choice,
    Combined,
    StepAggregation,
    against_joint,
    require_positive,
    unflattened,
    weighed,
)
from cotrain.aggregation.gradients import NotFiniteError, TrainingPass, all_finite
from cotrain.aggregation.loss_weights import loss_weighted
from cotrain.aggregation.module_state import absent_rows_left_out, empty_places, full_state, load_full_state
from cotrain.aggregation.seeds import Seed, seed_from
from cotrain.aggregation.split import Split
from cotrain.aggregation.task_adam import TaskAdam
from cotrain.extras import require
from cotrain.model import random_state_kept
from cotrain.task import Batch

__all__ = ["TorchJDAggregation", "TorchJDScalarization", "from_torchjd", "torchjd_aggregator", "torchjd_scalarizer"]

Maker: TypeAlias = Callable[[int], nn.Module]
"""From the number of tasks to an aggregator or a scalarizer."""

INCOMPLETE = {"DWA": "dwa", "FAMO": "famo", "NashMTL": "nash-mtl"}
"""Whose state is an optimizer's or a solver's, or has to be told when an epoch ends; ours take their place."""

LEAST_LOSSES = {"GeometricMean": False, "IMTLL": True, "UW": True}
"""Scalarizers that need positive losses, and whether 0 is one. A negative loss falls with its learned scale for ever:
e^s L - s (IMTL-L) and e^-s L + s (UW) then have no minimum over s."""

LARGEST_FLOAT32 = 1e30
"""Gram matrices with larger entries go on in float64."""


def from_torchjd(
    source: nn.Module,
    *,
    seed: Seed = 0,
    lr: float = 0.025,
    on_choice: Callable[[Choice], None] | None = None,
) -> "TorchJDAggregation | TorchJDScalarization":
    """Make one of TorchJD's aggregators or scalarizers an `Aggregation`.

    Args:
        source: A `torchjd.aggregation.Aggregator` or `torchjd.scalarization.Scalarizer`; options of one number per
            task are in the order of the tasks.
        seed: Of what it draws, or a generator that is asked for one; the global random state is not touched.
        lr: Learning rate (Adam) of a scalarizer's own parameters.
        on_choice: Called with what was decided at every step.

    Raises:
        ImportError: If TorchJD is not installed, with the pip command.
        ValueError: If it is neither, or one that does not save all its state.
    """
    kind = type(source).__name__
    if kind in INCOMPLETE and type(source).__module__.startswith("torchjd"):
        raise ValueError(f"TorchJD's {kind} does not save all its state. Use named({INCOMPLETE[kind]!r}) in its place.")
    if isinstance(source, require("torchjd.scalarization", extra="torchjd").Scalarizer):
        return TorchJDScalarization(source, seed=seed, lr=lr, on_choice=on_choice)
    if isinstance(source, require("torchjd.aggregation", extra="torchjd").Aggregator):
        return TorchJDAggregation(source, seed=seed, on_choice=on_choice)
    raise ValueError(
        f"from_torchjd takes a torchjd.aggregation.Aggregator or a torchjd.scalarization.Scalarizer. Got {kind}."
    )


def torchjd_aggregator(name: str, **options: Any) -> nn.Module:
    """One of `torchjd.aggregation`, such as "IMTLG".

    Raises:
        ImportError: If TorchJD is not installed, with the pip command.
    """
    found: nn.Module = getattr(require("torchjd.aggregation", extra="torchjd"), name)(**options)
    return found


def torchjd_scalarizer(name: str, **options: Any) -> nn.Module:
    """One of `torchjd.scalarization`, such as "UW".

    Raises:
        ImportError: If TorchJD is not installed, with the pip command.
    """
    found: nn.Module = getattr(require("torchjd.scalarization", extra="torchjd"), name)(**options)
    return found


class _Seeded(StepAggregation):
    """A TorchJD module whose random numbers come from a generator, and whose state is one row per task."""

    def __init__(self, module: nn.Module, seed: Seed, on_choice: Callable[[Choice], None] | None) -> None:
        super().__init__(on_choice=on_choice)
        self._use(module)
        self._seed = seed_from(seed)
        self._generator = torch.Generator().manual_seed(self._seed)

    def _use(self, module: nn.Module) -> None:
        self.module = module
        self._sizes = empty_places(module)

    def _left_out(self, present: Tensor, *, square: bool) -> AbstractContextManager[None]:
        return absent_rows_left_out(self.module, present, square=square, sizes=self._sizes)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Let the module draw from the global state as if it were ours, and put the global state back."""
        with random_state_kept():
            torch.set_rng_state(self._generator.get_state())
            if torch.cuda.is_initialized():
                torch.cuda.manual_seed_all(int(torch.randint(2**62, (), generator=self._generator)))
            yield
            self._generator.set_state(torch.get_rng_state())

    def _state(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state(), "module": full_state(self.module)}

    def _load(self, state: Mapping[str, Any]) -> None:
        self._generator.set_state(state["generator"])
        load_full_state(self.module, state["module"])


class TorchJDAggregation(_Seeded):
    """One of TorchJD's aggregators. Where it can use a Gram matrix, it gets ours; otherwise the Jacobian.

    Args:
        aggregator: Any `torchjd.aggregation.Aggregator`.
        fewest: Tasks that it needs: with fewer present ones the mean is taken.
        seed: Of what it draws.
        on_choice: Called with what was decided at every step.
    """

    def __init__(
        self,
        aggregator: nn.Module,
        *,
        fewest: int = 1,
        seed: Seed = 0,
        on_choice: Callable[[Choice], None] | None = None,
    ) -> None:
        super().__init__(aggregator, seed, on_choice)
        self._fewest = fewest
        bases = require("torchjd.aggregation", extra="torchjd")
        plain = type(aggregator).forward is bases.WeightedAggregator.forward
        self._on_gram = plain and isinstance(aggregator, bases.GramianWeightedAggregator)
        self._weighs = plain and isinstance(aggregator, bases.WeightedAggregator)

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"aggregator": self.module, "fewest": self._fewest, "seed": self._seed}

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        jacobian = run.jacobian(split.shared)
        gramian = run.gramian(jacobian)
        if len(jacobian) < self._fewest:
            return weighed(run, split, jacobian, gramian, torch.full((len(jacobian),), 1 / len(jacobian)))
        with torch.no_grad(), self._drawing(), self._left_out(run.present, square=self._on_gram):
            if self._on_gram:
                narrow = gramian.abs().max() < LARGEST_FLOAT32
                weights = self.module.gramian_weighting(gramian.to(torch.float32) if narrow else gramian)  # type: ignore[operator]
            elif self._weighs:
                weights = self.module.weighting(jacobian)  # type: ignore[operator]
            else:
                return self._direct(split, jacobian)
        return weighed(run, split, jacobian, gramian, weights)

    def _direct(self, split: Split, jacobian: Tensor) -> Combined:
        direction = self.module(jacobian)
        if not all_finite([direction]):
            raise NotFiniteError([])
        applied, joint = direction.double(), jacobian.sum(0).double()
        figures = against_joint(float(applied @ joint), float(applied @ applied), float(joint @ joint))
        return Combined(unflattened(direction, split.shared), None, *figures)


class TorchJDScalarization(_Seeded):
    """One of TorchJD's scalarizers: a function of the losses, whose derivatives are the tasks' weights.

    Parameters of its own take an Adam step beside the model's. Costs one plain step and a pass through the heads.

    Args:
        scalarizer: Any `torchjd.scalarization.Scalarizer`, or what makes one for a number of tasks.
        lr: Learning rate of its parameters.
        seed: Of what it draws.
        on_choice: Called with what was decided at every step.
    """

    def __init__(
        self,
        scalarizer: nn.Module | Maker,
        *,
        lr: float = 0.025,
        seed: Seed = 0,
        on_choice: Callable[[Choice], None] | None = None,
    ) -> None:
        super().__init__(scalarizer if isinstance(scalarizer, nn.Module) else nn.Module(), seed, on_choice)
        if not lr > 0:
            raise ValueError(f"lr must be positive. Got {lr}.")
        self._source = scalarizer
        self._n_tasks: int | None = None
        self._lr = lr
        self._adams: dict[str, TaskAdam] = {}

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {"scalarizer": self._source, "lr": self._lr, "seed": self._seed}

    def _combine(self, run: TrainingPass, split: Split, batch: Batch) -> Combined:  # noqa: ARG002
        self._made(len(run.tasks))
        kind = type(self.module).__name__
        if kind in LEAST_LOSSES:
            remedy = "Add a constant to the loss, or use a method that needs gradients only."
            require_positive(run, kind, remedy, or_zero=LEAST_LOSSES[kind])
        present = run.present.cpu()
        losses = run.losses[run.present].cpu().float().requires_grad_()
        with torch.enable_grad(), self._drawing(), self._left_out(present, square=False):
            parameters = dict(self.module.named_parameters())
            weights, *found = torch.autograd.grad(self.module(losses), [losses, *parameters.values()])
        combined = loss_weighted(run, split, weights)
        self._step(dict(zip(parameters, found, strict=True)), present)
        return combined

    def _made(self, n_tasks: int) -> None:
        if self._n_tasks is None:
            self._n_tasks = n_tasks
            if not isinstance(self._source, nn.Module):
                self._use(self._source(n_tasks))
            self._adams = {name: TaskAdam(len(value), self._lr) for name, value in self.module.named_parameters()}

    def _step(self, gradients: Mapping[str, Tensor], present: Tensor) -> None:
        for name, value in self.module.named_parameters():
            moved = self._adams[name].stepped(value.detach().double(), gradients[name].double(), present)
            value.data.copy_(moved)

    def _state(self) -> dict[str, Any]:
        adams = {name: adam.state_dict() for name, adam in self._adams.items()}
        return {**super()._state(), "n_tasks": self._n_tasks, "adams": adams}

    def _load(self, state: Mapping[str, Any]) -> None:
        if state["n_tasks"] is not None:
            self._made(state["n_tasks"])
        super()._load(state)
        for name, saved in state["adams"].items():
            self._adams[name].load_state_dict(saved)
