"""What can go wrong for a user: every error says what was wrong, what was got and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "ArgumentsError",
    "CotrainError",
    "DataError",
    "StudyError",
    "TrainingDivergedError",
    "UnknownNameError",
    "as_arguments_errors",
]


class CotrainError(Exception):
    """Base of every error that cotrain raises on purpose; the command line prints it as one sentence."""


class ArgumentsError(CotrainError, ValueError):
    """An argument is out of its range; the command line exits with 2."""


class DataError(CotrainError, ValueError):
    """The data cannot be trained on as it is: a target, an input or a file is not what it must be."""


class UnknownNameError(ArgumentsError, DataError):
    """There is no data, target or option of that name."""


class StudyError(CotrainError, ValueError):
    """A study's folder or configuration does not fit what was asked."""


class TrainingDivergedError(CotrainError, ArithmeticError):
    """A loss became NaN or infinite; what was saved before that step is still there."""


@contextmanager
def as_arguments_errors() -> Iterator[None]:
    """What inside raises a ValueError was given a wrong argument by the user of the command line."""
    try:
        yield
    except ArgumentsError:
        raise
    except ValueError as error:
        raise ArgumentsError(str(error)) from error
