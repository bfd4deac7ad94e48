"""Combine the gradients of several tasks: IT-MTL, the methods of the literature, and TorchJD's behind one adapter."""

from cotrain.aggregation.aggregation import Aggregation, Choice, GradientAggregation, StepAggregation, Weighting
from cotrain.aggregation.cagrad import CAGrad
from cotrain.aggregation.db_mtl import DBMTL
from cotrain.aggregation.dwa import DWA
from cotrain.aggregation.fairgrad import FairGrad
from cotrain.aggregation.famo import FAMO
from cotrain.aggregation.gradnorm import GradNorm
from cotrain.aggregation.gradvac import GradVac
from cotrain.aggregation.loss_weights import LogSum, Sum
from cotrain.aggregation.mgda import MGDA
from cotrain.aggregation.mgda_ub import MGDAUB
from cotrain.aggregation.names import aggregation_names, as_aggregation, named, register
from cotrain.aggregation.nash import NashMTL
from cotrain.aggregation.pcgrad import PCGrad
from cotrain.aggregation.torchjd_adapter import from_torchjd
from cotrain.aggregation.transference_aggregation import TransferenceAggregation
from cotrain.aggregation.transference_decision import Decision
from cotrain.aggregation.transference_record import ChoiceRecord
from cotrain.aggregation.upgrad import DualProj, UPGrad

__all__ = [
    "DBMTL",
    "DWA",
    "FAMO",
    "MGDA",
    "MGDAUB",
    "Aggregation",
    "CAGrad",
    "Choice",
    "ChoiceRecord",
    "Decision",
    "DualProj",
    "FairGrad",
    "GradNorm",
    "GradVac",
    "GradientAggregation",
    "LogSum",
    "NashMTL",
    "PCGrad",
    "StepAggregation",
    "Sum",
    "TransferenceAggregation",
    "UPGrad",
    "Weighting",
    "aggregation_names",
    "as_aggregation",
    "from_torchjd",
    "named",
    "register",
]
