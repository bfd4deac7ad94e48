"""Decide which tasks train together: predict the gains of groups, choose the best groups within a budget."""

from cotrain.grouping.candidates import Candidate
from cotrain.grouping.gains import GainModel
from cotrain.grouping.grouping import Group, Grouping
from cotrain.grouping.pair_mean import PairMean
from cotrain.grouping.random_cover import random_cover, random_like
from cotrain.grouping.selection import select_groups, serve_groups
from cotrain.grouping.table import GainTable

__all__ = [
    "Candidate",
    "GainModel",
    "GainTable",
    "Group",
    "Grouping",
    "PairMean",
    "random_cover",
    "random_like",
    "select_groups",
    "serve_groups",
]
