"""Census-Income's ten tasks of mixed kinds, and why each column is an input, a target or neither.

People below 15 are left out: the survey asks them nothing about schooling, marriage and work, so that their labels
would be constants. 152,101 of 199,523 rows of the training file and 76,320 of 99,762 of the test file stay.

The targets, their base rates over all rows of the training file that stay (mean and standard deviation for numbers),
and their source columns, none of which is an input:

=================  ==========  =========  ==================================  ========
task               kind        labelled   base rate                           column
=================  ==========  =========  ==================================  ========
income_over_50k    binary      all        .081                                target
higher_education   binary      all        .440, above high school             AHGA
never_married      binary      all        .257                                AMARITL
age                regression  all        43.1 (18.4) years                   AAGE
weeks_worked       regression  103,540    44.7 (13.7), of who worked          WKSWORK
class_of_worker    multiclass  98,674     .730 private, .086 self-employed,   ACLSWKR
                                          .033 self-employed incorporated,
                                          .079 local, .043 state, .030
                                          federal government
employed           binary      48,946     .936, of the labour force, 1995     AWKSTAT
household_role     multiclass  all        .496 householder, .274 spouse,      HHDREL
                                          .146 child, .044 no relative,
                                          .040 other relative
citizen            binary      all        .922                                PRCITSHP
union_member       binary      19,064     .159, of the quarter that is asked  AUNMEM
=================  ==========  =========  ==================================  ========

Where a question was not asked ("Not in universe") there is no label. Two answers are no label, either: who never
worked, or works without pay, has no class of worker (604 rows, too few to learn).

Inputs: wage per hour AHRSPAY, CAPGAIN, CAPLOSS and DIVVAL (dollars, logarithm of 1 + x because of their tails, then
standardised), sex ASEX, and as categories occupation ADTOCC, race ARACE, Hispanic origin AREORGN, region moved from
GRINREG, same house a year ago MIGSAME, moved from the sunbelt MIGSUN, size of the employer NOEMP, veteran VETYN.
No occupation and NOEMP 0 say that someone does not work; the tasks about work have no label there.

Not inputs, because they give a target away:
- ADTIND, AMJIND (industry): "public administration" is the class of worker; AMJOCC repeats ADTOCC in coarser groups.
- AHSCOL (enrolled at school or college): bounds education and age from both sides.
- AUNTYPE (reason for unemployment): says who is not employed.
- FILESTAT (tax filing): "joint, both under 65" is marriage and age.
- HHDFMX (detailed household role), PARENT (parents of those under 18): are household role and age.
- PENATVTY, PEFNTVTY, PEMNTVTY (countries of birth of the person and the parents): born in the United States is a
  citizen; with the parents' countries alone held-out AUC of `citizen` is .98, without them .89.
- SEOTR (own business): is self-employment, a class of worker.
Not inputs, because they say nothing about the person: MARSUPWT (sampling weight), YEAR (of the survey).
Not inputs, because another column says it: GRINST, MIGMTR1, MIGMTR3, MIGMTR4 (the move of GRINREG and MIGSUN, finer),
VETQVA (a question to the veterans of VETYN).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cotrain.data.census_pair import VALID_SHARE
from cotrain.data.dataset import MultiTaskData, Split
from cotrain.data.encoding import OneHot, Standardiser
from cotrain.data.notes import describe_target
from cotrain.task import Task, TaskSet

if TYPE_CHECKING:
    import pandas as pd

_Reader = Callable[["pd.DataFrame"], NDArray[np.float64]]

__all__ = ["ten"]

_ADULT_AGE = 15
_DOLLARS = ("AHRSPAY", "CAPGAIN", "CAPLOSS", "DIVVAL")
_CATEGORIES = ("ADTOCC", "ARACE", "AREORGN", "GRINREG", "MIGSAME", "MIGSUN", "NOEMP", "VETYN")
_HIGHER = ("Some college", "Associates", "Bachelors", "Masters", "Prof school", "Doctorate")
_WORKERS = {
    "private": ("Private",),
    "self_employed": ("Self-employed-not incorporated",),
    "self_employed_incorporated": ("Self-employed-incorporated",),
    "local_government": ("Local government",),
    "state_government": ("State government",),
    "federal_government": ("Federal government",),
}
_ROLES = {
    "householder": ("Householder",),
    "spouse": ("Spouse of householder",),
    "child": ("Child 18 or older", "Child under 18 never married", "Child under 18 ever married"),
    "no_relative": ("Nonrelative of householder", "Group Quarters- Secondary individual"),
    "other_relative": ("Other relative of householder",),
}


@dataclass(frozen=True)
class _Target:
    """How a task's labels are read from the columns; `values` gives [N] float with NaN for no label."""

    task: Task
    meaning: str
    values: _Reader
    classes: tuple[str, ...] = ()


def ten(train: "pd.DataFrame", test: "pd.DataFrame", *, seed: int = 0) -> MultiTaskData:
    """The ten tasks, of people of 15 and over.

    Args:
        train: Rows of `census-income.data` as `read_census` gives them.
        test: Rows of `census-income.test`.
        seed: Of the validation rows, 20 % of the training file.

    Returns:
        Inputs [N, D], standardised and one-hot with what the training rows alone say.
    """
    train, test = (frame[(frame["AAGE"] >= _ADULT_AGE).to_numpy()] for frame in (train, test))
    shuffled = np.random.default_rng(seed).permutation(len(train))
    n_valid = math.ceil(VALID_SHARE * len(train))
    fitted, valid = train.iloc[np.sort(shuffled[n_valid:])], train.iloc[np.sort(shuffled[:n_valid])]
    dollars = Standardiser.learn(_log_dollars(fitted))
    categories = OneHot.learn(fitted, _CATEGORIES)

    def encode(frame: "pd.DataFrame") -> Split:
        sex = torch.from_numpy((frame["ASEX"] == "Male").to_numpy(np.float32)[:, None])
        inputs = torch.cat([dollars.apply(_log_dollars(frame)), sex, categories.apply(frame)], dim=1)
        targets = np.stack([target.values(frame) for target in _TARGETS], axis=1)
        return Split(inputs, torch.from_numpy(targets.astype(np.float32)))

    splits = [encode(frame) for frame in (fitted, valid, test)]
    labels = splits[0].targets.numpy()
    return MultiTaskData(
        "census-income",
        TaskSet(target.task for target in _TARGETS),
        train=splits[0],
        valid=splits[1],
        test=splits[2],
        notes={
            target.task.name: describe_target(target.task, column, meaning=target.meaning, classes=target.classes)
            for target, column in zip(_TARGETS, labels.T, strict=True)
        },
        input_names=(*_DOLLARS, "ASEX=Male", *categories.names),
    )


def _log_dollars(frame: "pd.DataFrame") -> NDArray[np.float64]:
    dollars: NDArray[np.float64] = np.log1p(frame[list(_DOLLARS)].to_numpy(dtype=np.float64))
    return dollars


def _one_of(column: str, answers: tuple[str, ...], *, unlabelled: tuple[str, ...] = ()) -> _Reader:
    """1 where the answer begins with one of `answers`; no label where it begins with one of `unlabelled`."""

    def values(frame: "pd.DataFrame") -> NDArray[np.float64]:
        known = frame[column].cat.categories
        value = np.where(known.str.startswith(answers), 1.0, 0.0)
        value[known.str.startswith(unlabelled)] = np.nan
        return value[frame[column].cat.codes.to_numpy()]

    return values


def _class_of(column: str, classes: Mapping[str, tuple[str, ...]]) -> _Reader:
    """The number of the class that lists the answer; no label where none does."""
    number_of = {answer: float(number) for number, answers in enumerate(classes.values()) for answer in answers}

    def values(frame: "pd.DataFrame") -> NDArray[np.float64]:
        value = np.array([number_of.get(answer, np.nan) for answer in frame[column].cat.categories])
        return value[frame[column].cat.codes.to_numpy()]

    return values


def _weeks(frame: "pd.DataFrame") -> NDArray[np.float64]:
    weeks = frame["WKSWORK"].to_numpy(dtype=np.float64)
    return np.where(weeks > 0, weeks, np.nan)


_TARGETS = (
    _Target(Task("income_over_50k", "binary"), "total income is above 50,000 dollars", _one_of("target", ("50000+",))),
    _Target(Task("higher_education", "binary"), "education beyond high school", _one_of("AHGA", _HIGHER)),
    _Target(Task("never_married", "binary"), "was never married", _one_of("AMARITL", ("Never married",))),
    _Target(Task("age", "regression"), "age in years", lambda frame: frame["AAGE"].to_numpy(dtype=np.float64)),
    _Target(Task("weeks_worked", "regression"), "weeks worked in the year, of who worked at all", _weeks),
    _Target(
        Task("class_of_worker", "multiclass", len(_WORKERS)),
        "employer of who works for pay",
        _class_of("ACLSWKR", _WORKERS),
        tuple(_WORKERS),
    ),
    _Target(
        Task("employed", "binary"),
        "has work, of the labour force",
        _one_of("AWKSTAT", ("Full-time", "PT"), unlabelled=("Not in labor force", "Children")),
    ),
    _Target(
        Task("household_role", "multiclass", len(_ROLES)),
        "relation to the householder",
        _class_of("HHDREL", _ROLES),
        tuple(_ROLES),
    ),
    _Target(
        Task("citizen", "binary"),
        "is a citizen of the United States",
        _one_of("PRCITSHP", ("Native", "Foreign born- U S citizen")),
    ),
    _Target(
        Task("union_member", "binary"),
        "is a member of a labour union, of those asked",
        _one_of("AUNMEM", ("Yes",), unlabelled=("Not in universe",)),
    ),
)
