"""Whether a value can be looked at without waiting for a device to finish what it was given."""

from torch import Tensor

__all__ = ["is_at_hand"]


def is_at_hand(tensor: Tensor) -> bool:
    """True on the CPU. Elsewhere a look at a value stops the training until the device has caught up.

    One function, so that the tests can take the way of the other devices on the CPU.
    """
    return tensor.device.type == "cpu"
