"""The main job: measure how tasks act on each other, decide on groups, check them by real trainings."""

from cotrain.study.config import StudyConfig
from cotrain.study.folder import StudyFolder
from cotrain.study.maps_settled import MapsSettled
from cotrain.study.run import run_study

__all__ = ["MapsSettled", "StudyConfig", "StudyFolder", "run_study"]
