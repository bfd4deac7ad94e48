"""Preferences: points on the simplex, checked; and the grids of them that a front is drawn on."""

from collections.abc import Mapping, Sequence
from math import comb
from typing import TypeAlias

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from cotrain.errors import UnknownNameError

__all__ = ["MOST_LATTICE_POINTS", "Preference", "as_preferences", "preference_grid", "simplex_lattice"]

Preference: TypeAlias = Tensor | Sequence[float] | Mapping[str, float]
"""Non-negative shares that sum to 1: one number per name in their order, or by name (left out: 0)."""

TOLERANCE = 1e-4
"""How far a sum may be from 1: what float32 and typed decimals such as .333 + .667 need."""

MOST_LATTICE_POINTS = 500
"""A lattice of more points than this is replaced by a sequence that fills the simplex evenly."""

DIVISIONS = {2: 10, 3: 10, 4: 6, 5: 4}
"""Of the default lattices: 11, 66, 84 and 70 points."""


def as_preferences(preference: Preference, names: Sequence[str]) -> Tensor:
    """Check a preference, or several in a tensor.

    Args:
        preference: [K], or [n, K] for several at once, or {name: share}.
        names: K names.

    Returns:
        [K] or [n, K] in the default dtype, each summing to exactly what rounding allows.

    Raises:
        UnknownNameError: If a name is not among the names.
        ValueError: If the number of entries is not K, an entry is negative or not finite, or the sum is not 1.
    """
    if isinstance(preference, Mapping):
        unknown = [name for name in preference if name not in names]
        if unknown:
            raise UnknownNameError(f"A preference is over {list(names)}. Got the unknown name {unknown[0]!r}.")
        preference = [float(preference.get(name, 0.0)) for name in names]
    if preference is None:
        raise ValueError(f"A preference over {list(names)} is missing. Give one share for each, which sum to 1.")
    values = torch.as_tensor(preference, dtype=torch.float64)
    if values.dim() not in (1, 2) or values.shape[-1] != len(names):
        raise ValueError(
            f"A preference needs {len(names)} entries, one for each of {list(names)}. Got the shape"
            f" {list(values.shape)}."
        )
    sums = values.sum(-1)
    wrong = ~(torch.isfinite(values).all(-1) & (values >= 0).all(-1) & ((sums - 1).abs() <= TOLERANCE))
    if bool(wrong.any()):
        first = values if values.dim() == 1 else values[int(wrong.nonzero()[0])]
        raise ValueError(
            f"A preference must be non-negative and sum to 1. Got {[round(value, 6) for value in first.tolist()]},"
            f" which sums to {float(first.sum()):.6g}. Divide non-negative weights by their sum."
        )
    return (values / sums.unsqueeze(-1)).to(torch.get_default_dtype())


def preference_grid(preferences: int | Preference | None, names: Sequence[str], *, seed: int = 0) -> Tensor:
    """The preferences at which a front is looked at.

    Args:
        preferences: [n, K] or [K] preferences; or how many: for two names evenly spaced from the first's corner to the
            second's, for more the corners, the middle and a Sobol sequence through the simplex; None for 11 (two
            names), a lattice (three to five), or 100.
        names: K names.
        seed: Of the Sobol sequence.

    Returns:
        [n, K].

    Raises:
        ValueError: If there are fewer points than corners and middle, or a preference is none.
    """
    count = len(names)
    if preferences is None and count in DIVISIONS:
        return simplex_lattice(count, DIVISIONS[count])
    number = 100 + count if preferences is None else preferences
    if not isinstance(number, int):
        given: Tensor = torch.atleast_2d(as_preferences(number, names))
        return given
    if count == 1:
        return torch.ones(1, 1)
    least = 2 if count == 2 else count + 1
    if number < least:
        raise ValueError(f"A front over {count} names needs at least {least} preferences. Got {number}.")
    if count == 2:
        return simplex_lattice(2, number - 1)
    return torch.cat([torch.eye(count), torch.full((1, count), 1 / count), _spread(count, number - least, seed)])


def simplex_lattice(count: int, divisions: int) -> Tensor:
    """All preferences whose entries are multiples of 1 / divisions.

    Args:
        count: Entries of a preference, at least 1.
        divisions: Steps along an edge, at least 1.

    Returns:
        [C(divisions + count - 1, count - 1), count], the first name's corner first, the last name's last.

    Raises:
        ValueError: If there would be more than 500 points.
    """
    number = comb(divisions + count - 1, count - 1)
    if number > MOST_LATTICE_POINTS:
        raise ValueError(
            f"A lattice of {divisions} divisions over {count} names has {number} points, and at most"
            f" {MOST_LATTICE_POINTS} are made. Take fewer divisions, or a number of preferences."
        )
    rows = torch.tensor(_compositions(count, divisions), dtype=torch.float64)
    lattice: Tensor = rows / divisions
    return lattice.to(torch.get_default_dtype())


def _compositions(count: int, total: int) -> list[tuple[int, ...]]:
    """Every way to write `total` as an ordered sum of `count` numbers, the largest first entry first."""
    if count == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total, -1, -1) for rest in _compositions(count - 1, total - first)]


def _spread(count: int, number: int, seed: int) -> Tensor:
    """[number, count] points of a scrambled Sobol sequence, mapped evenly onto the simplex by sorted gaps."""
    if number == 0:
        return torch.empty(0, count)
    cube = qmc.Sobol(count - 1, rng=np.random.default_rng(seed)).random(2 ** (number - 1).bit_length())[:number]
    cuts = np.sort(cube, axis=1)
    gaps = np.diff(np.pad(cuts, ((0, 0), (1, 1)), constant_values=(0.0, 1.0)), axis=1)
    return torch.from_numpy(gaps).to(torch.get_default_dtype())
