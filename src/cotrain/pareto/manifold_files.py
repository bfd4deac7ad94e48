"""A manifold as one safetensors file: tensors by name, and everything else that it needs as JSON metadata."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cotrain.errors import StudyError
from cotrain.files import write_atomically
from cotrain.task import Task, TaskSet
from cotrain.version import __version__

if TYPE_CHECKING:
    from cotrain.pareto.manifold import ParetoManifold

__all__ = ["load", "save"]

KEY = "cotrain.pareto"
ANCHORS = "statistics at anchors/"
_SHOWN = 6


def save(manifold: "ParetoManifold", path: Path) -> None:
    """Write a manifold, whole or not at all."""
    about = {
        "version": __version__,
        "form": manifold.form,
        "rank": getattr(manifold.members, "rank", None),
        "names": list(manifold.names),
        "shares": manifold.knobs.shares.tolist(),
        "members": list(manifold.member_names),
        "parameters": {name: list(shape) for name, shape in manifold.template.parameter_names.items()},
        "buffers": list(manifold.template.buffer_names),
        "frozen": manifold.template.frozen,
        "divisions": manifold.statistics.divisions,
        "tasks": [_described(task) for task in manifold.tasks],
    }
    tensors = {**_tensors(manifold.state_dict()), **_named_anchors(manifold.statistics.at_anchors)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, lambda part: save_file(tensors, part, metadata={KEY: json.dumps(about)}))


def load(cls: "type[ParetoManifold]", path: Path, module: nn.Module, tasks: TaskSet | None) -> "ParetoManifold":
    """Build a manifold of class `cls` around a module, and fill it; see `ParetoManifold.load`."""
    about, tensors = _read(path)
    _require_same(path, about, module)
    tasks = tasks or _tasks(path, about["tasks"])
    if list(tasks.names) != [task["name"] for task in about["tasks"]]:
        raise StudyError(
            f"{path} is of the tasks {[task['name'] for task in about['tasks']]}. Got {list(tasks.names)}: give the"
            " same tasks in the same order."
        )
    taking_part = set(about["members"])
    groups = {
        name: [task for task, share in zip(tasks.names, row, strict=True) if share > 0]
        for name, row in zip(about["names"], about["shares"], strict=True)
    }
    with _frozen(module, about["frozen"]):
        manifold = cls(
            module,
            tasks,
            about["form"],
            members=lambda name: name in taking_part,
            rank=about["rank"] or 1,
            groups=groups,
        )
    state = {name: value for name, value in tensors.items() if not name.startswith(ANCHORS)}
    wanted = {name: value.shape for name, value in _tensors(manifold.state_dict()).items()}
    if wanted != {name: value.shape for name, value in state.items()}:
        raise StudyError(
            f"{path} is damaged, or was made with other parameters frozen than {type(module).__name__} has: its tensors"
            f" do not fit {sorted(set(wanted) ^ set(state))[:_SHOWN] or 'in shape'}. Freeze the same, or make it anew."
        )
    manifold.load_state_dict(state, strict=False)  # what was learnt at anchors is set below
    manifold.statistics.set_extra_state(
        {
            "divisions": about["divisions"],
            "at_anchors": {
                name.removeprefix(ANCHORS): value for name, value in tensors.items() if name.startswith(ANCHORS)
            },
        }
    )
    return manifold.eval()


@contextmanager
def _frozen(module: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """The module in training mode but for some layers; as before afterwards."""
    modes = {layer: layer.training for layer in module.modules()}
    module.train()
    for name in names:
        module.get_submodule(name).training = False
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _named_anchors(anchors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {ANCHORS + name: value for name, value in anchors.items()}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads(file.metadata()[KEY])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StudyError(f"{path} is not a saved Pareto manifold, or is damaged ({error}).") from error


def _require_same(path: Path, about: Mapping[str, Any], module: nn.Module) -> None:
    """Refuse a module whose parameters or buffers are not those of the file."""
    there = {name: tuple(shape) for name, shape in about["parameters"].items()}
    here = {name: tuple(value.shape) for name, value in module.named_parameters()}
    missing = [name for name in there if name not in here]
    more = [name for name in here if name not in there]
    both = [name for name in there if name in here]
    other = [f"{name} {there[name]} there, {here[name]} here" for name in both if there[name] != here[name]]
    buffers = sorted(set(about["buffers"]) ^ {name for name, _ in module.named_buffers()})
    if missing or more or other or buffers:
        parts = [
            f"{words}: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
            for words, names in (
                ("only in the file", missing), ("only in the module", more), ("of another shape", other),
                ("buffers of one of the two", buffers),
            )
            if names
        ]  # fmt: skip
        raise StudyError(
            f"{path} was made for another architecture than {type(module).__name__}. Parameters {'; '.join(parts)}."
            " Give a module of the architecture that was saved."
        )


def _described(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "kind": task.kind,
        "n_outputs": task.n_outputs,
        "location": task.location,
        "scale": task.scale,
        "own_code": task.loss is not None or task.metric is not None,
    }


def _tasks(path: Path, described: list[dict[str, Any]]) -> TaskSet:
    coded = [task["name"] for task in described if task["own_code"]]
    if coded:
        raise StudyError(
            f"The tasks {coded} of {path} have a loss or metric of their own, which is code and not in the file."
            " Give tasks=, as when it was made."
        )
    return TaskSet(
        Task(task["name"], task["kind"], task["n_outputs"], location=task["location"], scale=task["scale"])
        for task in described
    )
