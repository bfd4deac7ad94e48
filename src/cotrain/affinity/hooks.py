"""What an instrument must check when it is hooked into `fit`."""

from cotrain.task import TaskSet

__all__ = ["require_units"]


def require_units(tasks: TaskSet, instrument: str) -> None:
    """Refuse regression tasks without units: `fit` trains in standard units, and the losses would be others.

    Raises:
        ValueError: If a regression task has no scale.
    """
    without = [task.name for task in tasks if task.kind == "regression" and task.scale is None]
    if without:
        raise ValueError(
            f"fit trains regression tasks in standard units, which {without} do not have here."
            f" Make the {instrument} with tasks.with_units(training_targets)."
        )
