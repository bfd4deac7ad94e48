"""A gain model that is asked once about every group, however often a search comes back to it."""

from __future__ import annotations

import numpy as np

from cotrain.grouping.gains import BoolArray, FloatArray, GainModel, Groups, membership

__all__ = ["RememberedGains"]


class RememberedGains:
    """The predictions of another gain model, kept by group.

    A search fits its back-ends anew in every round and lists all groups of up to 14 tasks each time. What does not
    learn from the trained groups, as a linearised network does not, says the same every time: on the digits (13 tasks,
    8,191 groups) these predictions took nine tenths of a study's search.

    Memory: 16 T bytes per group.

    Attributes:
        tasks: Of the model.
        unit: Of the model.
        single_losses: Of the model; None if it knows none.
    """

    def __init__(self, model: GainModel) -> None:
        """Takes a model that never changes; asks it nothing yet."""
        self.tasks = model.tasks
        self.unit: str = getattr(model, "unit", "gain")
        self.single_losses: FloatArray | None = getattr(model, "single_losses", None)
        self._model = model
        self._row: dict[bytes, int] = {}
        self._known: FloatArray = np.empty((2, 0, len(model.tasks)))

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """As the model, [n, T] each; only groups that are asked about for the first time reach it."""
        keys = [members.tobytes() for members in membership(groups, self.tasks)]
        new = {key: group for key, group in zip(keys, groups, strict=True) if key not in self._row}
        if new:
            found = np.stack(self._model.predict(list(new.values())))
            self._row.update(zip(new, range(len(self._row), len(self._row) + len(new)), strict=True))
            self._known = np.concatenate([self._known, found], axis=1)
        mean, std = self._known[:, [self._row[key] for key in keys]]
        return mean, std

    def measured(self, groups: Groups) -> BoolArray:
        """As the model."""
        return self._model.measured(groups)
