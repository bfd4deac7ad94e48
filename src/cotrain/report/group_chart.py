"""Who trains with whom: networks as columns, tasks as rows."""

from dataclasses import dataclass
from typing import Literal

from cotrain.report.contents import Study

Role = Literal["serves", "helps", ""]


@dataclass(frozen=True)
class GroupRow:
    """One task: its role in every network, and whether it was left out as noise."""

    task: str
    roles: tuple[Role, ...]
    left_out: bool
    noise: bool


@dataclass(frozen=True)
class GroupColumn:
    """One network: how many tasks it is trained on, and how many it answers for."""

    trained: int
    served: int


def group_columns(study: Study) -> list[GroupColumn]:
    """The networks in the order in which they were chosen."""
    return [GroupColumn(trained=len(group.trains), served=len(group.serves)) for group in study.groups]


def group_rows(study: Study) -> list[GroupRow]:
    """The tasks, those served by one network side by side, those in no network last."""
    rows = []
    for t in study.display_order:
        name = study.names[t]
        roles = tuple(_role(name, group.serves, group.trains) for group in study.groups)
        rows.append(GroupRow(task=name, roles=roles, left_out=not any(roles), noise=name in study.noise))
    return rows


def _role(task: str, serves: tuple[str, ...], trains: tuple[str, ...]) -> Role:
    if task in serves:
        return "serves"
    return "helps" if task in trains else ""
