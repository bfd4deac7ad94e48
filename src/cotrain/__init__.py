"""Which tasks should train together, how to combine their gradients, and what to do when they still compete."""

from cotrain.evaluation import Evaluation, evaluate
from cotrain.fleet import Fleet, fit_fleet
from cotrain.model import SharedTrunk, shared_parameters
from cotrain.task import Batch, Task, TaskSet
from cotrain.training import Fit, fit
from cotrain.version import __version__

__all__ = [
    "Batch",
    "Evaluation",
    "Fit",
    "Fleet",
    "SharedTrunk",
    "Task",
    "TaskSet",
    "__version__",
    "evaluate",
    "fit",
    "fit_fleet",
    "shared_parameters",
]
