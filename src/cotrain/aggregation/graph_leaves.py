"""The tensors that a graph of autograd begins with."""

from typing import Any

from torch import Tensor

__all__ = ["leaves_of"]


def leaves_of(value: Tensor, *, around: Tensor | None = None) -> list[Tensor]:
    """The leaves of a value's graph, parameters among them, in the order in which a walk over its nodes meets them.

    Args:
        value: Where the walk begins.
        around: Another tensor of the graph, through which the walk does not go. None: it goes everywhere.
    """
    found: dict[int, Tensor] = {}
    seen: set[Any] = set() if around is None else {around.grad_fn}
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
