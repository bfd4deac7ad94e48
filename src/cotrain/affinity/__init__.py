"""Measure how tasks act on each other while one network trains."""

from cotrain.affinity.affinity import Affinity
from cotrain.affinity.controls import label_correlation
from cotrain.affinity.data_map import DataMap, DataMaps
from cotrain.affinity.learnability import Learnability, learnability
from cotrain.affinity.transference import Transference

__all__ = [
    "Affinity",
    "DataMap",
    "DataMaps",
    "Learnability",
    "Transference",
    "label_correlation",
    "learnability",
]
