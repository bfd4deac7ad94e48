"""Data with several targets per sample: built-in sets, tables, planted tasks, and the checks before training."""

from cotrain.data.census import load_census_income
from cotrain.data.checks import validate
from cotrain.data.dataset import MultiTaskData, Split
from cotrain.data.digits import load_digits
from cotrain.data.fashion_mnist import load_fashion_mnist
from cotrain.data.overlaid_images import load_multi_fashion, load_multi_mnist
from cotrain.data.planted import make_planted_tasks
from cotrain.data.registry import DatasetInfo, datasets, get, load
from cotrain.data.table_file import read_table

__all__ = [
    "DatasetInfo",
    "MultiTaskData",
    "Split",
    "datasets",
    "get",
    "load",
    "load_census_income",
    "load_digits",
    "load_fashion_mnist",
    "load_multi_fashion",
    "load_multi_mnist",
    "make_planted_tasks",
    "read_table",
    "validate",
]
