"""Ways to combine gradients by name, for `fit` and the command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

import torch
from torch import nn

from cotrain.aggregation.aggregation import Aggregation, GradientAggregation, Weighting
from cotrain.aggregation.cagrad import CAGrad
from cotrain.aggregation.db_mtl import DBMTL
from cotrain.aggregation.dwa import DWA
from cotrain.aggregation.fairgrad import FairGrad
from cotrain.aggregation.famo import FAMO
from cotrain.aggregation.gradnorm import GradNorm
from cotrain.aggregation.gradvac import GradVac
from cotrain.aggregation.loss_weights import LogSum, Sum
from cotrain.aggregation.mgda import MGDA
from cotrain.aggregation.mgda_ub import MGDAUB
from cotrain.aggregation.nash import NashMTL
from cotrain.aggregation.pcgrad import PCGrad
from cotrain.aggregation.seeds import Seed
from cotrain.aggregation.torchjd_adapter import (
    TorchJDAggregation,
    TorchJDScalarization,
    from_torchjd,
    torchjd_aggregator,
    torchjd_scalarizer,
)
from cotrain.aggregation.transference_aggregation import TransferenceAggregation
from cotrain.aggregation.upgrad import DualProj, UPGrad
from cotrain.errors import UnknownNameError

__all__ = ["aggregation_names", "as_aggregation", "named", "register"]


def named(name: str, **options: Any) -> Aggregation:
    """An aggregation by its name, with its options.

    Args:
        name: One of `aggregation_names()`, in any case.
        options: Of the method, such as `c=0.4` for "cagrad"; those of TorchJD's methods are TorchJD's.

    Raises:
        UnknownNameError: If there is no aggregation of that name (near ones are suggested); a ValueError.
        ImportError: If it needs an extra that is not installed, with the pip command.
        ValueError: If an option is unknown or out of its range.
    """
    make = _MAKERS.get(name.lower())
    if make is None:
        near = get_close_matches(name.lower().replace("_", "-"), _MAKERS, cutoff=0.7)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownNameError(f"There is no aggregation {name!r}.{hint} There are {', '.join(aggregation_names())}.")
    try:
        return as_aggregation(make(**options))
    except TypeError as error:
        raise ValueError(f"The aggregation {name!r} cannot be made with {options}: {error}.") from error


def as_aggregation(source: Aggregation | Weighting | str) -> Aggregation:
    """An aggregation from what stands for one.

    Args:
        source: An aggregation, the name of one, a weighting such as `UPGrad()`, or an aggregator or scalarizer of
            TorchJD.

    Raises:
        UnknownNameError: If there is no aggregation of that name.
        ValueError: If it is nothing of that.
    """
    if isinstance(source, str):
        return named(source)
    if not isinstance(source, type):
        if hasattr(source, "backward"):
            return cast(Aggregation, source)
        if isinstance(source, nn.Module):
            return from_torchjd(source)
        if callable(source):
            return GradientAggregation(source)
    raise ValueError(
        "An aggregation is given as an object such as TransferenceAggregation() or UPGrad(), or by its name, one of"
        f" {', '.join(aggregation_names())}. Got {source!r}."
    )


def aggregation_names() -> tuple[str, ...]:
    """All names, in alphabetical order."""
    return tuple(sorted(_MAKERS))


def register(name: str, make: Callable[..., Aggregation | Weighting]) -> None:
    """Add an aggregation of one's own.

    Args:
        name: In lower case.
        make: From options to a new aggregation, or to a weighting: a class such as `UPGrad` will do.

    Raises:
        ValueError: If the name is taken, or not in lower case.
    """
    if name in _MAKERS or name != name.lower():
        raise ValueError(f"A new aggregation needs a name in lower case that is not taken. Got {name!r}.")
    _MAKERS[name] = make


def _aggregator(
    name: str, fewest: Callable[[Mapping[str, Any]], int] = lambda _: 1, **defaults: Any
) -> Callable[..., Aggregation]:
    def make(seed: Seed = 0, **options: Any) -> Aggregation:
        chosen = _with_tensors({**defaults, **options})
        return TorchJDAggregation(torchjd_aggregator(name, **chosen), fewest=fewest(chosen), seed=seed)

    return make


def _scalarizer(
    name: str, *, per_task: str | None = None, weights: bool = False, **defaults: Any
) -> Callable[..., Aggregation]:
    def make(seed: Seed = 0, lr: float = 0.025, **options: Any) -> Aggregation:
        maker = _ScalarizerMaker(name, per_task, weights, _with_tensors({**defaults, **options}))
        maker(len(maker.chosen.get("weights", [1])))  # wrong options, or no TorchJD, show now
        return TorchJDScalarization(maker, lr=lr, seed=seed)

    return make


@dataclass(frozen=True)
class _ScalarizerMaker:
    """Makes one of TorchJD's scalarizers once the number of tasks is known."""

    name: str
    per_task: str | None
    weights: bool
    chosen: Mapping[str, Any]

    def __call__(self, n_tasks: int) -> nn.Module:
        sized: dict[str, Any] = {} if self.per_task is None else {self.per_task: n_tasks}
        weights = self.chosen.get("weights")
        if weights is not None and not (isinstance(weights, torch.Tensor) and weights.shape == (n_tasks,)):
            raise ValueError(f"weights must be a list of one number per task. Got {weights!r} for {n_tasks} tasks.")
        if self.weights and weights is None:
            sized["weights"] = torch.full((n_tasks,), 1 / n_tasks)
        return torchjd_scalarizer(self.name, **self.chosen, **sized)


def _with_tensors(options: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of numbers, as a configuration file has them, as tensors."""
    return {key: torch.tensor(value) if isinstance(value, list | tuple) else value for key, value in options.items()}


_MAKERS: dict[str, Callable[..., Aggregation | Weighting]] = {
    "cagrad": CAGrad,
    "db-mtl": DBMTL,
    "dualproj": DualProj,
    "dwa": DWA,
    "fairgrad": FairGrad,
    "famo": FAMO,
    "gradnorm": GradNorm,
    "gradvac": GradVac,
    "log-sum": LogSum,
    "mgda": MGDA,
    "mgda-ub": MGDAUB,
    "nash-mtl": NashMTL,
    "pcgrad": PCGrad,
    "sum": Sum,
    "transference": TransferenceAggregation,
    "upgrad": UPGrad,
    # TorchJD's, where nothing of ours takes their place.
    "aligned-mtl": _aggregator("AlignedMTL"),
    "config": _aggregator("ConFIG"),
    "excess-mtl": _aggregator("ExcessMTL"),
    "graddrop": _aggregator("GradDrop"),
    "imtl-g": _aggregator("IMTLG"),
    "krum": _aggregator("Krum", lambda chosen: int(chosen["n_byzantine"]) + 3, n_byzantine=1),
    "mean": _aggregator("Mean"),
    "pcd": _aggregator("PCD"),
    "random": _aggregator("Random"),
    "trimmed-mean": _aggregator("TrimmedMean", lambda chosen: 2 * int(chosen["trim_number"]) + 1, trim_number=1),
    "cosmos": _scalarizer("COSMOS", weights=True, lambda_=1.0),
    "geometric-mean": _scalarizer("GeometricMean"),
    "imtl-l": _scalarizer("IMTLL", per_task="shape"),
    "pbi": _scalarizer("PBI", weights=True, theta=5.0),
    "random-losses": _scalarizer("Random"),
    "stch": _scalarizer("STCH", mu=0.1),
    "uw": _scalarizer("UW", per_task="shape"),
}
