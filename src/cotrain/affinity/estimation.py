"""One estimator of transference at work: its observations, what they are relative to, and their calibration."""

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cotrain.affinity.calibration import Calibration, DifferenceCalibration
from cotrain.affinity.calibration_fit import FitCalibration
from cotrain.affinity.calibration_steps import CalibrationSteps
from cotrain.affinity.choice import price
from cotrain.affinity.estimators import Place
from cotrain.affinity.observations import ExactObservations, Observed
from cotrain.affinity.options import CalibrateBy, Estimator, Options
from cotrain.affinity.relative_losses import RelativeLosses
from cotrain.affinity.sketched_observations import SketchedObservations
from cotrain.affinity.statistics import ENOUGH
from cotrain.errors import StudyError
from cotrain.task import TaskSet

__all__ = ["Estimation"]


class Estimation:
    """The means over all observations; where a sketch does not work, `gram` takes its place.

    Args:
        tasks: The tasks.
        estimator: The one that was chosen.
        options: What else was asked for.
    """

    def __init__(self, tasks: TaskSet, estimator: Estimator, options: Options) -> None:
        self._tasks, self._options = tasks, options
        self._losses = RelativeLosses(tasks.names)
        self._calibration: Calibration | None = None
        if options.calibrate is not None and estimator != "lookahead":
            steps = CalibrationSteps(
                len(tasks), every=options.calibrate, n_sources=options.calibration_sources, seed=options.seed
            )
            self._calibration = _CALIBRATIONS[options.calibrate_by](len(tasks), steps)
        self._measure_by(estimator)

    @property
    def estimator(self) -> Estimator:
        """The one that measures."""
        return self._estimator

    @property
    def count(self) -> Tensor:
        """[T, T] how often each entry was observed."""
        return self._seen.changes.count

    @property
    def floored(self) -> Tensor:
        """[T] how often a loss was below the floor."""
        return self._losses.floored

    @property
    def calibrated(self) -> bool:
        """Whether exact steps correct the mean."""
        return self._calibration is not None

    def observe(self, place: Place, unit: float, weight: float) -> Observed | None:
        """Measure on one batch; None if nothing can be measured there.

        Args:
            place: Where the training stands.
            unit: What relative changes are divided by.
            weight: Of this observation in the mean.

        Returns:
            What came out, with the price of the calibration in its own.
        """
        try:
            observed = self._seen.observe(place, self._losses, unit, weight)
        except NotImplementedError as error:
            self._fall_back(error)
            observed = self._seen.observe(place, self._losses, unit, weight)
        if observed is None or self._calibration is None:
            return observed
        return observed.with_passes(self._calibration.observe(place, observed, weight))

    def estimate(self) -> tuple[Tensor, Tensor]:
        """[T, T] means and their standard errors."""
        mean, stderr = self._seen.changes.mean(), self._seen.changes.stderr()
        return (mean, stderr) if self._calibration is None else self._calibration.correct(mean, stderr)

    def effective_n(self) -> Tensor:
        """[T, T] how many independent observations would have the same standard error, without the calibration."""
        return self._seen.effective_n()

    def cosine(self) -> Tensor:
        """[T, T] mean cosines of the tasks' gradients."""
        return self._seen.cosine()

    def calibration_r2(self) -> Tensor | None:
        """[T] what the calibration explains; None without one."""
        return None if self._calibration is None else self._calibration.r2()

    def warn(self, stacklevel: int) -> None:
        """Say which pairs have no error bar and which tasks had trouble.

        Args:
            stacklevel: Of the caller that is to be blamed.
        """
        few = int((self.count < ENOUGH).sum())
        if few:
            warnings.warn(
                f"{few} of {len(self._tasks) ** 2} pairs were observed fewer than {ENOUGH} times; their standard error"
                " is NaN. Observe more batches.",
                stacklevel=stacklevel,
            )
        self._losses.warn(stacklevel=stacklevel + 1)

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another process observed on other batches, from its `state_dict`.

        Raises:
            StudyError: If the state is of other tasks or was measured otherwise.
        """
        self._require_own(state)
        self._seen.merge(state["seen"])
        self._losses.merge(state["losses"])
        if self._calibration is not None:
            self._calibration.merge(state["calibration"])

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return {
            "tasks": list(self._tasks.names),
            "estimator": self._estimator,
            "method": self._method(),
            "seen": self._seen.state_dict(),
            "losses": self._losses.state_dict(),
            "calibration": None if self._calibration is None else self._calibration.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recorded state.

        Raises:
            StudyError: If the state is of other tasks or was measured otherwise.
        """
        if (self._estimator, state["estimator"]) == ("sketch", "gram"):
            self._measure_by("gram")  # what the interrupted one had to fall back to
        self._require_own(state)
        self._seen.load_state_dict(state["seen"])
        self._losses.load_state_dict(state["losses"])
        if self._calibration is not None:
            self._calibration.load_state_dict(state["calibration"])

    def _require_own(self, state: Mapping[str, Any]) -> None:
        if state["tasks"] != list(self._tasks.names) or state["method"] != self._method():
            raise StudyError(
                f"The saved state is of {state['method']} on tasks {state['tasks']}, not of {self._method()} on"
                f" {list(self._tasks.names)}. Start without it."
            )

    def _method(self) -> str:
        """The estimator with what decides on the form of its state."""
        options = self._options
        signs = " by signs of tasks" if self._estimator == "sketch" and options.along == "tasks" else ""
        return self._estimator + signs + (f", calibrated by {options.calibrate_by}" if self.calibrated else "")

    def _measure_by(self, estimator: Estimator) -> None:
        """Begin with nothing observed."""
        n, options = len(self._tasks), self._options
        self._estimator = estimator
        self._seen: ExactObservations | SketchedObservations = (
            SketchedObservations(n, options.directions, along=options.along, last_module=options.last_module)
            if estimator == "sketch"
            else ExactObservations(n, exact=estimator == "lookahead", stepped_heads=options.heads == "stepped")
        )

    def _fall_back(self, error: NotImplementedError) -> None:
        if self._estimator != "sketch":
            raise error
        warnings.warn(
            f"Transference is measured by gram and not by sketch: {error}. One measurement now costs about"
            f" {price('gram', len(self._tasks), self._options):.0f} plain steps; a larger `every` makes it cheaper.",
            stacklevel=5,
        )
        self._measure_by("gram")


_CALIBRATIONS: Mapping[CalibrateBy, type[DifferenceCalibration] | type[FitCalibration]] = {
    "difference": DifferenceCalibration,
    "fit": FitCalibration,
}
