"""The images that a task finds hardest and most ambiguous, small enough to show."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from cotrain.affinity import DataMaps
from cotrain.files import write_atomically

__all__ = ["THUMBNAIL_FILE", "write_thumbnails"]

THUMBNAIL_FILE = "thumbnails.safetensors"
MAX_TASKS = 60
PER_TASK = 8
CHANNELS = (1, 3)


def write_thumbnails(path: Path, inputs: Tensor, maps: DataMaps) -> None:
    """Write every task's least confident and most variable training images; nothing if the inputs are no images.

    Args:
        path: Of the file: for "hardest" and "most_ambiguous" the images [T, 8, H, W, C] uint8 and their confidence
            and variability [T, 8, 2], for the first 60 tasks. Values are scaled so that the darkest of all chosen
            pixels is 0 and the brightest 255. A task with fewer labels has its last image repeated.
        inputs: [N, C, H, W] training inputs.
        maps: Their data maps.
    """
    if inputs.dim() != 4 or inputs.shape[1] not in CHANNELS:
        return
    tensors = {}
    for name, statistic in (("hardest", -maps.confidence), ("most_ambiguous", maps.variability)):
        known = statistic[:, :MAX_TASKS].nan_to_num(nan=-torch.inf)
        values, chosen = known.topk(min(PER_TASK, len(inputs)), dim=0)
        chosen = torch.where(torch.isfinite(values), chosen, chosen[:1]).T
        places = torch.stack(
            [part[:, :MAX_TASKS].T.gather(1, chosen) for part in (maps.confidence, maps.variability)], 2
        )
        images = inputs[chosen]
        darkest, brightest = images.amin(), images.amax()
        scaled = (images - darkest) / (brightest - darkest).clamp(min=1e-12) * 255
        tensors[name] = scaled.round().to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous()
        tensors[f"{name}_places"] = places.contiguous()
    write_atomically(path, lambda part: save_file(tensors, part))
