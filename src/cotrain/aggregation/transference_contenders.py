"""Other aggregators as candidates of IT-MTL: what they would apply at this step, beside sums of chosen tasks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from torch import Tensor, nn

from cotrain.aggregation.aggregation import Aggregation, Combined, GradientAggregation, StepAggregation, Weighting
from cotrain.aggregation.dwa import DWA
from cotrain.aggregation.gradients import TrainingPass
from cotrain.aggregation.loss_weights import LogSum, Sum
from cotrain.aggregation.split import Split
from cotrain.aggregation.torchjd_adapter import TorchJDScalarization, from_torchjd
from cotrain.aggregation.transference_candidates import JOINT, KINDS, free_name
from cotrain.errors import UnknownNameError
from cotrain.task import Batch

__all__ = ["Candidate", "Contender", "KnownRows", "proposed", "resolved"]

Candidate: TypeAlias = str | Collection[str] | Weighting | Aggregation | nn.Module
"""A kind of candidates or an aggregation by its name, one subset of the tasks by their names, or an aggregator."""

BY_LOSSES = (DWA, LogSum, Sum, TorchJDScalarization)
"""Whose weights follow from the losses: they need no task's gradient by itself."""


@dataclass(frozen=True, eq=False)
class Contender:
    """Another aggregator that is tried at every decision; what it remembers goes on there, picked or not.

    Args:
        name: By which it is told from the others.
        aggregation: The aggregator.
    """

    name: str
    aggregation: StepAggregation

    @property
    def needs_rows(self) -> bool:
        """Whether it asks for every task's gradient."""
        return not isinstance(self.aggregation, BY_LOSSES)


@dataclass(frozen=True, kw_only=True)
class KnownRows(TrainingPass):
    """A training step of which the tasks' gradients by the shared parameters are known: nobody computes them again.

    Args:
        names: Of the shared parameters.
        known: [m, P] gradients of the present tasks by these.
    """

    names: tuple[str, ...]
    known: Tensor

    @classmethod
    def of(cls, run: TrainingPass, split: Split, known: Tensor) -> "KnownRows":
        """The step `run` with its rows."""
        same: dict[str, Any] = {field.name: getattr(run, field.name) for field in fields(TrainingPass)}
        return cls(**same, names=tuple(split.shared), known=known)

    def jacobian(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """As `TrainingPass.jacobian`; a copy of the known rows for all shared parameters."""
        return self.known.clone() if tuple(parameters) == self.names else super().jacobian(parameters)


def resolved(candidates: Sequence[Candidate]) -> tuple[tuple[str | tuple[str, ...], ...], tuple[Contender, ...]]:
    """What is asked for: kinds and subsets of the tasks, and other aggregators, with a name each.

    Raises:
        ValueError: If a candidate is none of these, or cannot be tried at a step of another's.
    """
    sums: list[str | tuple[str, ...]] = []
    contenders: list[Contender] = []
    for candidate in candidates:
        if isinstance(candidate, str) and candidate in KINDS:
            sums.append(candidate)
        elif _is_subset(candidate):
            sums.append(tuple(candidate))  # type: ignore[arg-type]
        else:
            name, aggregation = _aggregation_of(candidate)
            _refuse_own_step(name, aggregation)
            taken = {JOINT, *KINDS, *(contender.name for contender in contenders)}
            contenders.append(Contender(free_name(name, taken), aggregation))
    return tuple(sums), tuple(contenders)


def proposed(
    contenders: Sequence[Contender], run: TrainingPass, split: Split, batch: Batch, *, taken: Collection[str]
) -> Iterator[tuple[str, Combined]]:
    """What each contender would apply at this step, by a name that is not taken; one at a time, as each is large.

    Raises:
        NotFiniteError: If a number is NaN or infinite.
    """
    for contender in contenders:
        found, _ = contender.aggregation._gradients(run, Split(split.shared, {}), batch)
        yield free_name(contender.name, taken), found


def _is_subset(candidate: object) -> bool:
    if isinstance(candidate, str) or not isinstance(candidate, Collection):
        return False
    return bool(candidate) and all(isinstance(name, str) for name in candidate)


def _aggregation_of(candidate: object) -> tuple[str, Any]:
    # `named` knows TransferenceAggregation too.
    from cotrain.aggregation.names import aggregation_names, named

    if isinstance(candidate, str):
        try:
            return candidate.lower(), named(candidate)
        except UnknownNameError:
            pass
    elif isinstance(candidate, nn.Module):
        return type(candidate).__name__, from_torchjd(candidate)
    elif isinstance(candidate, GradientAggregation):
        return _name_of(candidate.weighting), candidate
    elif hasattr(candidate, "backward") and not isinstance(candidate, type):
        inner = getattr(candidate, "module", candidate)
        return type(inner).__name__, candidate
    elif callable(candidate) and not isinstance(candidate, type):
        return _name_of(candidate), GradientAggregation(candidate)
    raise ValueError(
        f"There is no kind of candidates {candidate!r}. Use one of {list(KINDS)}, a list of task names for one subset,"
        f" an aggregation or a weighting that is made, such as UPGrad(), or its name: {', '.join(aggregation_names())}."
    )


def _refuse_own_step(name: str, aggregation: object) -> None:
    if not isinstance(aggregation, StepAggregation):
        raise ValueError(  # noqa: TRY004 - as all wrong options are told
            f"{name} cannot be a candidate: it has a backward of its own, which writes gradients. Give a weighting, a"
            " function from the Gram matrix to weights."
        )
    kind = type(aggregation)
    if any(getattr(kind, part) is not getattr(StepAggregation, part) for part in ("backward", "_before")):
        raise ValueError(
            f"{name} cannot be a candidate: it looks into a forward pass of its own, or learns from what its own last"
            " step did, and the steps here are another's. Train with it alone."
        )


def _name_of(weighting: object) -> str:
    return getattr(weighting, "__name__", type(weighting).__name__)
