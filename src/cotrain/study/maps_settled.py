"""When to stop a training that only measures: two windows of epochs, apart from each other, give the same clusters."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cotrain.affinity import DataMap, DataMaps
from cotrain.grouping import adjusted_rand_index

__all__ = ["MapsSettled"]

AGREEMENT = 0.95


class MapsSettled:
    """Tells `fit(stop_when=...)` to stop once the clusters of the last two windows agree.

    The windows must have no epoch in common, as those of `DataMap(window="epochs", snapshots=...)`: cumulative maps
    agree by inertia long before they have settled.

    Args:
        data_map: An instrument of the same training, with window "epochs" and snapshots.
        cluster: [T] labels of the tasks from the maps of one window.
        agreement: The adjusted Rand index that must be exceeded.

    Raises:
        ValueError: If the recorder's windows overlap, or fewer than two end within the training.
    """

    def __init__(
        self, data_map: DataMap, cluster: Callable[[DataMaps], NDArray[np.integer]], *, agreement: float = AGREEMENT
    ) -> None:
        if data_map.window != "epochs" or len(data_map.snapshots) < 2:
            raise ValueError(
                'Clusters of two windows are compared: give the DataMap window="epochs" and two or more snapshots.'
                f" Got window {data_map.window!r} and snapshots {list(data_map.snapshots)}."
            )
        self._data_map, self._cluster, self._agreement = data_map, cluster, agreement

    def __call__(self) -> bool:
        """Whether the training may stop now; always false between the ends of windows."""
        ends = [epoch + 1 for epoch in self._data_map.snapshots if epoch < self._data_map.epochs]
        if len(ends) < 2 or ends[-1] != self._data_map.epochs:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # snapshots that are still to come
            before, now = self._data_map.result().snapshots[-2:]
        return adjusted_rand_index(self._cluster(before), self._cluster(now)) > self._agreement
