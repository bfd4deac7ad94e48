"""A front from a model: every preference evaluated in one pass over the samples."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cotrain.batches import Samples, batches
from cotrain.errors import DataError
from cotrain.model import random_state_kept
from cotrain.pareto.front import Front
from cotrain.pareto.preference import as_preferences
from cotrain.pareto.sample_scores import METRIC_OF_KIND, SampleScores, score_samples, targets_digest
from cotrain.task import Targets, Task, as_tasks

__all__ = ["FrontSamples", "evaluate_front"]

FrontSamples: TypeAlias = "Samples | DataLoader[Any]"
"""A Dataset of (inputs, targets), a pair of tensors, or a DataLoader that gives such pairs in batches."""


def evaluate_front(
    outputs_at: Callable[[Any, Tensor], Tensor],
    tasks: Iterable[Task],
    samples: FrontSamples,
    preferences: Tensor,
    names: Sequence[str],
    *,
    shares: Tensor | None = None,
    batch_size: int = 1024,
) -> Front:
    """Losses and metrics of a model at K preferences, in one pass over the samples and without autograd.

    Every sample's scores are kept, 8 K N T bytes in float32 (198 MB for 66 preferences, 125,000 samples and 3 tasks;
    half as much again for a moment at the end), because intervals are drawn from them. The random state is put back.

    Args:
        outputs_at: From inputs and preferences [K, G] to packed outputs [K, B, O]; called once per batch, in whatever
            mode the caller has put the model.
        tasks: T tasks; regression tasks know their units.
        samples: A Dataset of (inputs, targets), a pair of tensors, or a DataLoader.
        preferences: [K, G].
        names: G names of what a preference is over: the tasks, or groups of them.
        shares: [G, T], how a name's weight is spread over the tasks, rows of sum 1; None where the names are the tasks.
        batch_size: Samples per call; of a DataLoader its own counts.

    Raises:
        DataError: If there is no sample.
        ValueError: If a preference is none, the shapes do not agree, or a regression task does not know its units.
    """
    tasks = as_tasks(tasks)
    preferences = torch.atleast_2d(as_preferences(preferences, names))
    without_units = [task.name for task in tasks if task.kind == "regression" and task.scale is None]
    if without_units:
        raise ValueError(
            f"The units of regression tasks {without_units} are not known. Use the tasks that fit returned"
            " (result.tasks), or tasks.with_units(training_targets)."
        )
    losses: list[Tensor] = []
    metrics: list[Tensor] = []
    labelled: list[Tensor] = []
    seen: list[Targets] = []
    with torch.no_grad(), random_state_kept():
        for inputs, targets in _pairs(samples, batch_size):
            outputs = outputs_at(inputs, preferences)
            if outputs.dim() != 3 or len(outputs) != len(preferences) or outputs.shape[2] != tasks.n_outputs:
                raise ValueError(
                    f"outputs_at must give [{len(preferences)}, batch, {tasks.n_outputs}]. Got {list(outputs.shape)}."
                )
            batch = score_samples(tasks, outputs.cpu(), targets)
            for kept, part in zip((losses, metrics, labelled), batch, strict=True):
                kept.append(part)
            seen.append(targets)
    if not seen:
        raise DataError("There is no sample. Give at least one.")
    digest = targets_digest(seen)
    scores = SampleScores(_joined(losses, 1), _joined(metrics, 1), _joined(labelled, 0), digest)
    return Front(
        names=tuple(names),
        tasks=tasks.names,
        preferences=preferences,
        losses=scores.means("loss"),
        metrics=scores.means("metric"),
        metric_names=tuple(METRIC_OF_KIND[task.kind] for task in tasks),
        shares=torch.eye(len(tasks)) if shares is None else shares,
        scores=scores,
    )


def _pairs(samples: FrontSamples, batch_size: int) -> Iterator[tuple[Any, Targets]]:
    if isinstance(samples, DataLoader):
        yield from samples
        return
    for batch in batches(samples, batch_size):
        yield batch.inputs, batch.targets


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    """The parts as one tensor; the list is emptied, so that both are not held longer than needed."""
    whole = torch.cat(parts, dim)
    parts.clear()
    return whole
