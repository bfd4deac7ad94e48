"""How the words of the command line are read: names, groups of names, and names with a number each."""

import re
from collections.abc import Sequence

from cotrain.errors import ArgumentsError

__all__ = ["groups_of", "members_of", "names_of", "values_by_name"]


def names_of(given: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Names from `a,b,c`, or from a list of them."""
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",")]
    return None if given is None else tuple(given)


def members_of(group: str) -> tuple[str, ...]:
    """Names from `a+b+c`."""
    return tuple(name.strip() for name in group.split("+"))


def groups_of(given: Sequence[str] | str | None) -> tuple[tuple[str, ...], ...]:
    """Groups of names from `a+b,c+d`, or from a list of groups; none for None."""
    return tuple(members_of(group) for group in names_of(given) or ())


def values_by_name(pattern: re.Pattern[str], text: str, option: str, example: str) -> dict[str, str]:
    """{name: value} from names and values one after another, parted by commas.

    Args:
        pattern: Of one of them with what parts it from the next; its two groups are the name and the value.
        text: What was given.
        option: By which, for the message.
        example: How it is written, for the message.

    Raises:
        ArgumentsError: If the text is not so written.
    """
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = pattern.match(text, at)
        if match is None or match.end() == at:
            raise ArgumentsError(f'{option} must be written as "{example}". Got {text!r}.')
        name, value = match.groups()
        found[name] = value
        at = match.end()
    if not found:
        raise ArgumentsError(f'{option} must be written as "{example}". Got {text!r}.')
    return found
