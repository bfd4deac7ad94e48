"""A model inside DDP, Lightning Fabric and `torch.compile`: the user's module, and who trains it together."""

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["parallel_parts", "process_group", "unwrapped"]


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's module inside DDP, Fabric and torch.compile, whose parameters have their plain names."""
    while True:
        inner = getattr(model, "_orig_mod", None)  # torch.compile
        if inner is None and (isinstance(model, DistributedDataParallel) or type(model).__name__ == "_FabricModule"):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def parallel_parts(model: nn.Module) -> list[DistributedDataParallel]:
    """The parts of a model that are wrapped by DDP; none of a process that trains alone, without a look."""
    if not (dist.is_available() and dist.is_initialized()):
        return []
    return [module for module in model.modules() if isinstance(module, DistributedDataParallel)]


def process_group(model: nn.Module) -> dist.ProcessGroup | None:
    """The processes that train a model together; None for this one alone."""
    parallel = parallel_parts(model)
    return parallel[0].process_group if parallel else None
