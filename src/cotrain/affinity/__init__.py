"""Measure how tasks act on each other while one network trains."""

from cotrain.affinity.affinity import Affinity
from cotrain.affinity.choice import measuring_price
from cotrain.affinity.controls import label_correlation
from cotrain.affinity.data_map import DataMap, DataMaps
from cotrain.affinity.joint_probes import JointProbes
from cotrain.affinity.kinship import dynamics_correlation, kinship, prediction_correlation
from cotrain.affinity.learnability import Learnability, learnability
from cotrain.affinity.linearized_outputs import LinearizedOutputs, LinearizedTask, linearized_outputs
from cotrain.affinity.mastery import MASTERED, mastery
from cotrain.affinity.projected_gradients import projected_gradients
from cotrain.affinity.settled import reliability
from cotrain.affinity.stratified_samples import stratified_samples
from cotrain.affinity.task_correlation import TaskCorrelation
from cotrain.affinity.task_features import FeatureKind, TaskFeatures, embedded, kinship_features, task_features
from cotrain.affinity.task_gram import TaskGram
from cotrain.affinity.transference import Transference

__all__ = [
    "MASTERED",
    "Affinity",
    "DataMap",
    "DataMaps",
    "FeatureKind",
    "JointProbes",
    "Learnability",
    "LinearizedOutputs",
    "LinearizedTask",
    "TaskCorrelation",
    "TaskFeatures",
    "TaskGram",
    "Transference",
    "dynamics_correlation",
    "embedded",
    "kinship",
    "kinship_features",
    "label_correlation",
    "learnability",
    "linearized_outputs",
    "mastery",
    "measuring_price",
    "prediction_correlation",
    "projected_gradients",
    "reliability",
    "stratified_samples",
    "task_features",
]
