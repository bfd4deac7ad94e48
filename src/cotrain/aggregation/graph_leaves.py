"""The tensors that a graph of autograd begins with."""

from typing import Any

from torch import Tensor

__all__ = ["leaves_of"]


def leaves_of(value: Tensor) -> list[Tensor]:
    """The leaves of a value's graph, parameters among them, in the order in which a walk over its nodes meets them."""
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    waiting: list[Any] = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found[id(leaf)] = leaf
        waiting += [following for following, _ in node.next_functions]
    return list(found.values())
