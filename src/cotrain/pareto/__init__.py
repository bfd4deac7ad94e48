"""Trade off: one model that holds a continuous front, the preference an argument at inference."""

from cotrain.pareto.conditioned_objective import ConditionedObjective
from cotrain.pareto.cosmos import Cosmos
from cotrain.pareto.front import Front
from cotrain.pareto.front_choice import FrontChoice
from cotrain.pareto.front_volume import front_difference
from cotrain.pareto.hypernetwork import ParetoHypernetwork
from cotrain.pareto.hypervolume import hypervolume, nondominated
from cotrain.pareto.manifold import ParetoManifold
from cotrain.pareto.objective import ParetoObjective
from cotrain.pareto.ordering import ordering_penalty
from cotrain.pareto.preference import Preference, preference_grid, simplex_lattice
from cotrain.pareto.preference_model import PreferenceModel, ReportedChoice
from cotrain.pareto.ray_losses import ray_losses
from cotrain.pareto.separate_networks import SeparateNetworks

__all__ = [
    "ConditionedObjective",
    "Cosmos",
    "Front",
    "FrontChoice",
    "ParetoHypernetwork",
    "ParetoManifold",
    "ParetoObjective",
    "Preference",
    "PreferenceModel",
    "ReportedChoice",
    "SeparateNetworks",
    "front_difference",
    "hypervolume",
    "nondominated",
    "ordering_penalty",
    "preference_grid",
    "ray_losses",
    "simplex_lattice",
]
