"""Census-Income's pair of tasks, age of 40 or more and education, as Pareto Manifold Learning uses it (2210.09759).

It is kept exactly as published, to compare figures with, and not because every choice in it is a good one: the
income label and the sampling weight are inputs, and Masters degrees do not count as higher education (a typo in the
original; `fix_masters` repairs it and raises the share from .3030/.3018 to .3358/.3349 in training/test).
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cotrain.data.dataset import MultiTaskData, Split
from cotrain.data.encoding import OneHot, Standardiser
from cotrain.data.notes import describe_target
from cotrain.task import Task, TaskSet

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VALID_SHARE", "pair"]

VALID_SHARE = 0.2
_NUMERIC = ("AHRSPAY", "DIVVAL", "CAPGAIN", "CAPLOSS", "WKSWORK", "MARSUPWT")
_NOT_INPUTS = ("AAGE", "AHGA", "MIGMTR1", "MIGMTR3", "MIGMTR4", "YEAR")
_DROPPED_ROWS = "Grandchild <18 ever marr not in subfamily"  # of HHDFMX: in two rows of the training file only
_AGE = 40
_HIGHER = ("Bachelors", "Some", "Maters", "Asso", "Doctorate", "Prof")


def pair(train: "pd.DataFrame", test: "pd.DataFrame", *, fix_masters: bool = False, seed: int = 0) -> MultiTaskData:
    """The two binary tasks.

    Args:
        train: Rows of `census-income.data` as `read_census` gives them.
        test: Rows of `census-income.test`.
        fix_masters: Count Masters degrees as higher education.
        seed: Of the validation rows, 20 % of the training file.

    Returns:
        Inputs [N, 468] of the real files: 6 standardised numbers, 461 indicators, sex. Mean and standard deviation
        are those of the whole training file, validation rows included, as in the original.
    """
    train, test = (frame[(frame["HHDFMX"] != _DROPPED_ROWS).to_numpy()] for frame in (train, test))
    numeric = Standardiser.learn(train[list(_NUMERIC)].to_numpy())
    no_category = {*_NUMERIC, *_NOT_INPUTS, "ASEX"}
    categories = OneHot.learn(train, tuple(name for name in train.columns if name not in no_category))

    def encode(frame: "pd.DataFrame") -> Split:
        sex = torch.from_numpy((frame["ASEX"] == "Male").to_numpy(np.float32)[:, None])
        inputs = torch.cat([numeric.apply(frame[list(_NUMERIC)].to_numpy()), categories.apply(frame), sex], dim=1)
        return Split(inputs, _targets(frame, fix_masters=fix_masters))

    shuffled = np.random.default_rng(seed).permutation(len(train))
    n_valid = math.ceil(VALID_SHARE * len(train))
    rows = train.iloc[np.sort(shuffled[n_valid:])], train.iloc[np.sort(shuffled[:n_valid])], test
    fitted, valid, tested = (encode(frame) for frame in rows)
    masters = "with" if fix_masters else "without"
    meanings = (f"age is {_AGE} or more", f"education beyond high school, {masters} Masters degrees")
    tasks = TaskSet([Task("age_40", "binary"), Task("education", "binary")])
    labels = fitted.targets.numpy()
    return MultiTaskData(
        "census-income",
        tasks,
        fitted,
        valid,
        tested,
        notes={
            task.name: describe_target(task, column, meaning=meaning)
            for task, column, meaning in zip(tasks, labels.T, meanings, strict=True)
        },
        input_names=(*_NUMERIC, *categories.names, "ASEX=Male"),
    )


def _targets(frame: "pd.DataFrame", *, fix_masters: bool) -> Tensor:
    starts = (*_HIGHER, "Masters") if fix_masters else _HIGHER
    higher = frame["AHGA"].astype(str).str.startswith(starts).to_numpy()
    return torch.from_numpy(np.stack([frame["AAGE"].to_numpy() >= _AGE, higher], axis=1).astype(np.float32))
