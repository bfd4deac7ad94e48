"""Decide which tasks train together: choose the best groups within a budget from predicted gains, or cluster tasks."""

from cotrain.grouping.affinity_clusters import AffinityClusters, cluster_affinity
from cotrain.grouping.agreement import adjusted_rand_index
from cotrain.grouping.auxiliaries import Auxiliaries, select_auxiliaries
from cotrain.grouping.backends import Backend
from cotrain.grouping.calibrated_gains import CalibratedGains
from cotrain.grouping.candidates import Candidate
from cotrain.grouping.cluster_sizes import ClusterSize, stability_by_size
from cotrain.grouping.clustering import Clustering, ClusterMode, cluster_tasks
from cotrain.grouping.constraints import Constraints, Resource
from cotrain.grouping.dendrogram import Dendrogram, task_dendrogram
from cotrain.grouping.design import spread_groups
from cotrain.grouping.gains import GainModel
from cotrain.grouping.grouping import Group, Grouping
from cotrain.grouping.hamming_process import HammingProcess
from cotrain.grouping.judgement import Judgement, judge, judge_entries, random_regret, regret
from cotrain.grouping.linearized_gains import LinearizedGains
from cotrain.grouping.measured_losses import MeasuredLosses, Names, TrainGroups
from cotrain.grouping.measured_pairs import MeasuredPairMean
from cotrain.grouping.membership_ridge import MembershipRidge
from cotrain.grouping.memberships import calibrated_fuzziness, fuzzy_memberships, loss_weights, sparse_memberships
from cotrain.grouping.pair_mean import PairMean
from cotrain.grouping.partition import partition_tasks
from cotrain.grouping.partition_controls import between_share, difficulty_matched, difficulty_order, random_partition
from cotrain.grouping.random_cover import random_cover, random_like
from cotrain.grouping.remembered_gains import RememberedGains
from cotrain.grouping.search import Round, Search, search_groups
from cotrain.grouping.selection import select_groups, serve_groups
from cotrain.grouping.shortened import Shortened
from cotrain.grouping.stability import SelectionStability, selection_stability
from cotrain.grouping.stacked_gains import DEFAULT_BACKENDS, StackedGains
from cotrain.grouping.table import GainTable
from cotrain.grouping.task_mean import TaskMean

__all__ = [
    "DEFAULT_BACKENDS",
    "AffinityClusters",
    "Auxiliaries",
    "Backend",
    "CalibratedGains",
    "Candidate",
    "ClusterMode",
    "ClusterSize",
    "Clustering",
    "Constraints",
    "Dendrogram",
    "GainModel",
    "GainTable",
    "Group",
    "Grouping",
    "HammingProcess",
    "Judgement",
    "LinearizedGains",
    "MeasuredLosses",
    "MeasuredPairMean",
    "MembershipRidge",
    "Names",
    "PairMean",
    "RememberedGains",
    "Resource",
    "Round",
    "Search",
    "SelectionStability",
    "Shortened",
    "StackedGains",
    "TaskMean",
    "TrainGroups",
    "adjusted_rand_index",
    "between_share",
    "calibrated_fuzziness",
    "cluster_affinity",
    "cluster_tasks",
    "difficulty_matched",
    "difficulty_order",
    "fuzzy_memberships",
    "judge",
    "judge_entries",
    "loss_weights",
    "partition_tasks",
    "random_cover",
    "random_like",
    "random_partition",
    "random_regret",
    "regret",
    "search_groups",
    "select_auxiliaries",
    "select_groups",
    "selection_stability",
    "serve_groups",
    "sparse_memberships",
    "spread_groups",
    "stability_by_size",
    "task_dendrogram",
]
