"""Trained networks on disk: safetensors with what they are in the metadata."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from cotrain.files import write_atomically
from cotrain.study.setting import Setting

__all__ = ["save_network"]


def save_network(path: Path, model: nn.Module, setting: Setting, trains: Sequence[str], serves: Sequence[str]) -> None:
    """Save the weights, and in the metadata all that is needed to use them without the study.

    Args:
        path: The file to make or replace.
        model: A network of the study.
        setting: The study's data and architecture.
        trains: The tasks that the network was trained on.
        serves: The tasks that it is to be used for.
    """
    config, data = setting.config, setting.data
    metadata = {
        "network": {"kind": config.network, "width": config.width, "input_shape": list(data.input_shape)},
        "tasks": [
            {
                "name": task.name,
                "kind": task.kind,
                "n_outputs": task.n_outputs,
                "location": task.location,
                "scale": task.scale,
            }
            for task in data.tasks
        ],
        "trains": list(trains),
        "serves": list(serves),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, lambda part: save_file(tensors, part, metadata={"cotrain": json.dumps(metadata)}))
