"""Transference in a Lightning Trainer."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from cotrain.adapters.deferred import DeferredTransference, MakeTransference, unnumbered
from cotrain.affinity import Transference
from cotrain.extras import require
from cotrain.task import Batch

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    Callback = require("pytorch_lightning", extra="lightning").Callback

__all__ = ["TransferenceCallback", "pairs"]


def pairs(batch: Any, batch_idx: int) -> Batch:  # noqa: ARG001 - other translations need it
    """What most loaders give: inputs and targets, as a pair; a cotrain Batch passes as it is.

    Raises:
        ValueError: If the batch is neither.
    """
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor | Mapping):
        return unnumbered(batch[0], batch[1])
    raise ValueError(
        f"The loader must give pairs (inputs, targets). Got {type(batch).__name__}. Give the callback"
        " to_batch=, a function (batch, batch_idx) -> cotrain.Batch."
    )


class TransferenceCallback(Callback):
    """Measure transference while a Lightning Trainer trains: the same as `observe` before `optimizer.step()`.

    The trainer makes the optimizer, so the instrument is made from it at the first step:

        callback = TransferenceCallback(lambda model, optimizer: Transference(model, tasks, optimizer=optimizer))
        Trainer(callbacks=[callback]).fit(module, loader)
        callback.transference.result()

    Measured are the losses of the tasks, on the module's `forward(inputs)`, under the trainer's precision; what is
    trained is the module's own business (`training_step`), and the two should agree. With gradient accumulation
    the last micro-batch before the step is observed. The training stays bit-identical. What was observed is in
    the trainer's checkpoints, and `fit(ckpt_path=...)` goes on from it.

    With several processes each one measures its own batches; rank 0's are in the checkpoint, and every rank goes on
    from them.

    Args:
        make: (module, optimizer) -> Transference. If only a part of the module maps inputs to outputs, give the
            Transference that part.
        to_batch: (the loader's batch on the module's device, its number) -> cotrain.Batch. By default `pairs`.
        name: Of its state in a checkpoint; must differ between two such callbacks of one trainer.
    """

    def __init__(
        self,
        make: MakeTransference,
        to_batch: Callable[[Any, int], Batch] = pairs,
        *,
        name: str = "transference",
    ) -> None:
        self._deferred = DeferredTransference(make)
        self._to_batch = to_batch
        self._name = name
        self._batch: tuple[Any, int] = (None, 0)

    @property
    def transference(self) -> Transference:
        """The instrument.

        Raises:
            ValueError: If no step was due so far.
        """
        return self._deferred.transference

    @property
    def state_key(self) -> str:
        """Where its state is in a checkpoint."""
        return f"cotrain.{self._name}"

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Refuse trainings in which no single optimizer moves all tasks.

        Raises:
            ValueError: If the training has not exactly one optimizer.
        """
        del pl_module
        if len(trainer.optimizers) != 1:
            raise ValueError(
                "Transference tries out the step of one optimizer that holds all shared parameters."
                f" Got {len(trainer.optimizers)} optimizers. Configure one, with a parameter group for every rate."
            )

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch until the step is due."""
        del trainer, pl_module
        self._batch = (batch, batch_idx)

    def on_before_optimizer_step(self, trainer: "Trainer", pl_module: "LightningModule", optimizer: Optimizer) -> None:
        """Observe the batch.

        Raises:
            ValueError: If it measured another module before.
        """
        with trainer.precision_plugin.forward_context():
            self._deferred.observe(pl_module, optimizer, self._to_batch(*self._batch))

    def state_dict(self) -> dict[str, Any]:
        """Everything observed so far."""
        return self._deferred.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a recorded state.

        Raises:
            StudyError: If it is of other tasks or another estimator.
        """
        self._deferred.load_state_dict(state_dict)
