"""A model's buffers as they were: running statistics that a forward pass has moved, and was not to move."""

from collections.abc import Callable

from torch import nn

__all__ = ["kept_buffers"]


def kept_buffers(model: nn.Module) -> Callable[[], None]:
    """Copy all buffers; what is returned puts them back, in the tensors that hold them now.

    Costs a copy of the buffers, which are few numbers beside the parameters in all usual models.
    """
    kept = [
        (module, name, value, value.clone())
        for module in model.modules()
        for name, value in module._buffers.items()
        if value is not None
    ]

    def put_back() -> None:
        for module, name, value, copy in kept:
            module._buffers[name] = value.copy_(copy)

    return put_back
