"""Transference in a Hugging Face Trainer."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from cotrain.adapters.deferred import DeferredTransference, MakeTransference, unnumbered
from cotrain.affinity import Transference
from cotrain.errors import StudyError
from cotrain.extras import require
from cotrain.files import read_state, write_state
from cotrain.task import Batch, Outputs

if TYPE_CHECKING:
    from transformers.trainer import Trainer
    from transformers.trainer_callback import TrainerCallback
else:
    TrainerCallback = require("transformers", extra="transformers").TrainerCallback

__all__ = ["TransferenceTrainerCallback", "labelled", "logits"]


def labelled(inputs: Mapping[str, Any]) -> Batch:
    """The usual form of a batch: targets [B, T] under "labels", everything else for the model.

    Raises:
        ValueError: If there are no labels of that shape.
    """
    labels = inputs.get("labels")
    if not isinstance(labels, Tensor) or labels.dim() != 2:
        got = f"labels {list(labels.shape)}" if isinstance(labels, Tensor) else f"the keys {list(inputs)}"
        raise ValueError(
            f"A batch must hold the targets [batch, tasks] under 'labels'. Got {got}. Give the callback to_batch=, a"
            " function of the batch -> cotrain.Batch, whose inputs are the model's keyword arguments."
        )
    return unnumbered({name: value for name, value in inputs.items() if name != "labels"}, labels.float())


def logits(outputs: Any) -> Tensor:
    """What a model for classification or regression gives: the packed outputs under "logits"."""
    found: Tensor = outputs["logits"]
    return found


class TransferenceTrainerCallback(TrainerCallback):
    """Measure transference while a Hugging Face Trainer trains: the same as `observe` before `optimizer.step()`.

    The trainer makes the optimizer, so the instrument is made from it at the first step:

        callback = TransferenceTrainerCallback(
            trainer, lambda model, optimizer: Transference(model, tasks, optimizer=optimizer)
        )
        trainer.add_callback(callback)
        trainer.train()
        callback.transference.result()

    Measured are the losses of the tasks, under the trainer's precision; what is trained is the trainer's own
    business (`compute_loss`), and the two should agree. With gradient accumulation the last micro-batch before
    the step is observed. The training stays bit-identical. A Trainer shows no batch to its callbacks; so the callback,
    when it is made, wraps this trainer's `compute_loss` (the Trainer's own or an overridden one) to see the batches.

    What was observed is in every checkpoint folder; call `load(folder)` before
    `train(resume_from_checkpoint=folder)`. With several processes each one measures, saves and loads its own.

    Args:
        trainer: The trainer.
        make: (model, optimizer) -> Transference. The model takes a batch's inputs and gives packed outputs; its
            parameters are those of the trainer's model, under the same names.
        to_batch: The batch as the trainer gives it to `compute_loss` -> cotrain.Batch, whose inputs are the
            keyword arguments of the trainer's model. By default `labelled`.
        to_outputs: The model's output -> packed outputs, or {task name: tensor}. By default `logits`.
        name: Of its file in a checkpoint folder; must differ between two such callbacks of one trainer.
    """

    def __init__(
        self,
        trainer: "Trainer",
        make: MakeTransference,
        to_batch: Callable[[Mapping[str, Any]], Batch] = labelled,
        *,
        to_outputs: Callable[[Any], Outputs] = logits,
        name: str = "transference",
    ) -> None:
        self._trainer = trainer
        self._deferred = DeferredTransference(make)
        self._to_batch = to_batch
        self._to_outputs = to_outputs
        self._name = name
        self._packed: PackedModel | None = None
        self._inputs: Mapping[str, Any] = {}
        self._compute_loss: Callable[..., Any] = trainer.compute_loss
        trainer.compute_loss = self._remember  # type: ignore[method-assign]

    @property
    def transference(self) -> Transference:
        """The instrument.

        Raises:
            ValueError: If no step was due so far.
        """
        return self._deferred.transference

    def load(self, folder: str | Path) -> None:
        """Go on from what a checkpoint folder holds.

        Raises:
            StudyError: If it holds none, or a damaged one; of other tasks or another estimator, at the first step.
        """
        file = self._file(Path(folder))
        if not file.exists():
            raise StudyError(f"There are no observations to go on from: {file} does not exist. Start without load().")
        self._deferred.load_state_dict(read_state(file))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refuse another trainer.

        Warns:
            UserWarning: If the training goes on from a checkpoint whose observations were not loaded.

        Raises:
            ValueError: If the training is another trainer's.
        """
        del args, control
        if kwargs["model"] is not self._trainer.model:
            raise ValueError("This callback was made for another trainer. Give it the trainer that it is added to.")
        if state.global_step and not self._deferred.state_dict():
            warnings.warn(
                f"The training goes on from step {state.global_step}, and no earlier observations are at hand."
                " Call load(folder) before train(resume_from_checkpoint=folder).",
                stacklevel=2,
            )

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Observe the batch.

        Raises:
            ValueError: If it measured another model before.
        """
        del args, state, control
        model: nn.Module = kwargs["model"]
        if self._packed is None or not self._packed.wraps(model):
            self._packed = PackedModel(model, self._to_outputs)
        with self._trainer.compute_loss_context_manager():
            self._deferred.observe(self._packed, _bare(kwargs["optimizer"]), self._to_batch(self._inputs))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what was observed into the checkpoint's folder."""
        del control, kwargs
        observed = self._deferred.state_dict()
        if observed:
            write_state(self._file(Path(args.output_dir) / f"checkpoint-{state.global_step}"), observed)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let go of the last batch."""
        del args, state, control, kwargs
        self._inputs = {}

    def _remember(self, model: nn.Module, inputs: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        if model.training:
            self._inputs = dict(inputs)  # a copy, because computing the loss may take the labels out
        return self._compute_loss(model, inputs, *args, **kwargs)

    def _file(self, folder: Path) -> Path:
        return folder / f"{self._name}_{self._trainer.args.process_index}.safetensors"


class PackedModel(nn.Module):
    """A model that takes keyword arguments and gives an object, as one that takes a mapping and gives outputs.

    It holds no parameter and no module of its own but the model's very dictionaries of them, so that parameters
    have the names that the user knows, and values that are put in their place for a forward pass reach the model.

    Args:
        model: The model.
        to_outputs: What it gives -> packed outputs, or {task name: tensor}.
    """

    def __init__(self, model: nn.Module, to_outputs: Callable[[Any], Outputs]) -> None:
        super().__init__()
        self._parameters, self._buffers, self._modules = model._parameters, model._buffers, model._modules
        self._model = (model,)  # in a tuple, where it is not taken for a submodule
        self._to_outputs = to_outputs

    def forward(self, inputs: Mapping[str, Any]) -> Outputs:
        """Packed outputs, or by task name."""
        return self._to_outputs(self._model[0](**inputs))

    def wraps(self, model: nn.Module) -> bool:
        """Whether it is this model."""
        return self._model[0] is model


def _bare(optimizer: Any) -> Optimizer:
    """The optimizer itself, out of what accelerate wraps around it."""
    bare: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return bare
