"""Fourth step: from test results to totals with intervals, gains, the front of cost and quality, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from cotrain.files import write_json, write_text
from cotrain.metrics import SMALLER_IS_BETTER, primary_metric
from cotrain.study.arms import ALL_IN_ONE, GROUPED, SINGLE, Arm, is_kept, is_random, networks_of
from cotrain.study.check import arms_of, network_file, results_file
from cotrain.study.clusters import CONTROL_WORDS
from cotrain.study.folder import StudyFolder
from cotrain.study.gain_models import learnable_tasks, predicted_gains
from cotrain.study.gain_table import COLUMNS, Losses, agreement, as_csv, gain_rows
from cotrain.study.hindsight import hindsight
from cotrain.study.membership_check import WIDER, membership_file
from cotrain.study.setting import Setting
from cotrain.study.verdict import beside_control, interval, judge

__all__ = ["COMPARED_FILES", "compare", "predict_only"]

COMPARED_FILES = ("metrics.json", "gains.csv", "front.csv")
FRONT_COLUMNS = ("arm", "networks", "parameters", "relative_loss", "low", "high", "dominated")


def predict_only(folder: StudyFolder, setting: Setting) -> None:
    """Write the predicted gains of the chosen groups, without a check."""
    rows = gain_rows(arms_of(folder, setting, setting.config.seed), predicted_gains(folder, setting.config), {})
    write_text(folder.path / "gains.csv", as_csv(COLUMNS, map(astuple, rows)))


def compare(folder: StudyFolder, setting: Setting) -> None:
    """Read every seed's test results and write metrics.json, gains.csv and front.csv."""
    results = _Results.read(folder, setting)
    predictor = predicted_gains(folder, setting.config)
    rows = [
        row
        for seed, losses in results.losses.items()
        for row in gain_rows(results.arms[seed], predictor, {seed: losses})
    ]
    totals = {name: results.relative_totals(name) for name in results.names}
    n_networks = {name: results.n_networks(name) for name in results.names}
    parameters = folder.read_json("measure.json")["parameters_per_network"]
    agreed = agreement(rows)
    looked_back = hindsight(sorted(results.serving(GROUPED)), results.learnable, results.losses)
    twin = results.twin_of_the_groups()
    judged = [name for name in results.names if is_kept(name) or is_random(name)]
    compared = [name for name in judged if twin is None or name in (SINGLE, ALL_IN_ONE)]
    ways = _membership_rows(folder, results)
    controls = [(CONTROL_WORDS[name], totals[name]) for name in results.names if name not in judged]
    controls += [("one wider network that costs as much", row["per_seed"]) for row in ways if row["variant"] == WIDER]
    verdict = judge({name: totals[name] for name in compared}, n_networks).with_sentences(
        twin,
        *(beside_control(words, totals[GROUPED], control) for words, control in controls if twin is None),
        agreed.sentence,
        None if looked_back is None else looked_back.sentence,
        _on_fewer_samples(setting),
        _still_improving(results.best_epochs, setting),
    )
    write_json(
        folder.path / "metrics.json",
        {
            "check": setting.config.check,
            "n_train": len(setting.check_train[0]),
            "seeds": list(results.losses),
            "tasks": _task_records(setting, results.learnable),
            "arms": {
                name: {
                    "networks": n_networks[name],
                    "parameters": parameters * n_networks[name],
                    "groups": results.groups_of(name),
                    "results": results.per_seed(name),
                }
                for name in results.names
            },
            "relative_loss": {
                name: {**asdict(interval(values)), "per_seed": values} for name, values in totals.items()
            },
            "memberships": ways,
            "prediction": asdict(agreed),
            "hindsight": None if looked_back is None else asdict(looked_back),
            "verdict": asdict(verdict),
        },
    )
    write_text(folder.path / "gains.csv", as_csv(COLUMNS, map(astuple, rows)))
    write_text(folder.path / "front.csv", as_csv(FRONT_COLUMNS, _front(totals, n_networks, parameters)))


def _membership_rows(folder: StudyFolder, results: "_Results") -> list[dict[str, Any]]:
    """Every way to use memberships beside hard clusters: total test loss relative to single tasks, over the seeds."""
    rows: dict[tuple[str, str | None], dict[str, Any]] = {}
    for seed, losses in results.losses.items():
        if not (folder.path / membership_file(seed)).exists():
            return []
        single = results.total_of(SINGLE, seed, losses)
        for found in folder.read_json(membership_file(seed))["results"]:
            row = rows.setdefault(
                (found["variant"], found["by"]),
                {name: found[name] for name in ("variant", "by", "networks", "cost")} | {"per_seed": []},
            )
            row["per_seed"].append(sum(found["loss"][task] for task in results.learnable) / single)
    return [{**row, **asdict(interval(row["per_seed"]))} for row in rows.values()]


def _on_fewer_samples(setting: Setting) -> str | None:
    """A reminder that a quick check was not on all samples."""
    used, there = len(setting.check_train[0]), len(setting.data.train)
    if used == there:
        return None
    return (
        f"The check was on {used:,} of {there:,} training samples: gains on all of them may be others (--check full)."
    )


def _still_improving(best_epochs: Sequence[int], setting: Setting) -> str | None:
    """A warning if networks would have gone on getting better; it is the larger ones that are cut short."""
    cut = sum(epoch == setting.epochs - 1 for epoch in best_epochs)
    if cut == 0:
        return None
    return (
        f"{cut} of {len(best_epochs)} trainings were still improving in their last epoch, which is unfair to them:"
        f" run with more than --epochs {setting.epochs}."
    )


@dataclass(frozen=True)
class _Results:
    """What the check found.

    Args:
        arms: The arms by seed.
        learnable: The tasks that the arms are compared on.
        primary: The metric of each task that the tables show.
        losses: Test losses by seed, network and task.
        metrics: Test metrics by seed, network and task.
        best_epochs: Of every network with every seed.
    """

    arms: Mapping[int, Sequence[Arm]]
    learnable: Sequence[str]
    primary: Mapping[str, str]
    losses: Mapping[int, Losses]
    metrics: Mapping[int, Mapping[tuple[str, ...], Mapping[str, Mapping[str, float]]]]
    best_epochs: Sequence[int]

    @classmethod
    def read(cls, folder: StudyFolder, setting: Setting) -> "_Results":
        losses, metrics, best_epochs = {}, {}, []
        for seed in range(setting.config.seed, setting.config.seed + setting.config.seeds):
            networks = folder.read_json(results_file(seed))["networks"]
            losses[seed] = {tuple(network["trains"]): network["loss"] for network in networks}
            metrics[seed] = {tuple(network["trains"]): network["metrics"] for network in networks}
            best_epochs += [network["best_epoch"] for network in networks]
        primary = {task.name: primary_metric(task) for task in setting.data.tasks}
        arms = {seed: arms_of(folder, setting, seed) for seed in losses}
        return cls(arms, learnable_tasks(folder), primary, losses, metrics, best_epochs)

    @property
    def names(self) -> list[str]:
        """The arms that every seed has."""
        found = [[arm.name for arm in arms] for arms in self.arms.values()]
        return [name for name in found[0] if all(name in names for names in found)]

    def arm(self, name: str, seed: int) -> Arm:
        """An arm with one seed."""
        return next(arm for arm in self.arms[seed] if arm.name == name)

    def relative_totals(self, name: str) -> list[float]:
        """Per seed the arm's total loss over the learnable tasks, relative to single tasks."""
        return [
            self.total_of(name, seed, losses) / self.total_of(SINGLE, seed, losses)
            for seed, losses in self.losses.items()
        ]

    def total_of(self, name: str, seed: int, losses: Losses) -> float:
        """The arm's total loss over the learnable tasks with one seed."""
        groups = self.arm(name, seed).groups
        return sum(losses[group.trains][task] for group in groups for task in group.serves if task in self.learnable)

    def n_networks(self, name: str) -> int:
        """How many of the arm's networks serve a learnable task."""
        return len(self.serving(name))

    def twin_of_the_groups(self) -> str | None:
        """What to say if the chosen groups are another arm by another name, and nothing is left to compare."""
        for name, words in ((SINGLE, "every task alone"), (ALL_IN_ONE, "all tasks in one network")):
            if self.serving(GROUPED) == self.serving(name):
                return f"The selection chose {words}, so there are no groups to compare with anything."
        return None

    def groups_of(self, name: str) -> list[dict[str, Any]]:
        """The arm's networks with the first seed, and the files of their weights (controls are not kept)."""
        first = next(iter(self.arms))
        number = {network: position for position, network in enumerate(networks_of(self.arms[first]))}
        return [
            {
                "trains": list(group.trains),
                "serves": list(group.serves),
                "model": network_file(number[group.trains]) if is_kept(name) else None,
            }
            for group in self.arm(name, first).groups
        ]

    def per_seed(self, name: str) -> list[dict[str, Any]]:
        """Per seed every served task's loss and primary metric, and the groups, which differ if they are random."""
        records = []
        for seed, losses in self.losses.items():
            groups = self.arm(name, seed).groups
            served = [(group.trains, task) for group in groups for task in group.serves]
            records.append(
                {
                    "seed": seed,
                    "groups": ["+".join(group.trains) for group in groups],
                    "loss": {task: losses[trains][task] for trains, task in served},
                    "metric": {task: self.metrics[seed][trains][task][self.primary[task]] for trains, task in served},
                }
            )
        return records

    def serving(self, name: str) -> frozenset[tuple[str, ...]]:
        """The networks of an arm that serve a learnable task."""
        groups = self.arm(name, next(iter(self.arms))).groups
        return frozenset(group.trains for group in groups if any(task in self.learnable for task in group.serves))


def _task_records(setting: Setting, learnable: Sequence[str]) -> list[dict[str, Any]]:
    records = []
    for task in setting.data.tasks:
        metric = primary_metric(task)
        better = "lower" if metric in SMALLER_IS_BETTER else "higher"
        learns = task.name in learnable
        records.append({"name": task.name, "kind": task.kind, "metric": metric, "better": better, "learnable": learns})
    return records


def _front(
    totals: Mapping[str, Sequence[float]], n_networks: Mapping[str, int], parameters: int
) -> list[tuple[object, ...]]:
    """Cost against quality of every arm; dominated: another one is no worse in both and better in one."""
    points = {name: (n_networks[name], interval(values)) for name, values in totals.items()}
    rows: list[tuple[object, ...]] = []
    for name, (networks, loss) in points.items():
        dominated = any(
            other <= networks and other_loss.mean <= loss.mean and (other, other_loss.mean) != (networks, loss.mean)
            for other, other_loss in points.values()
        )
        rows.append((name, networks, networks * parameters, loss.mean, loss.low, loss.high, str(dominated).lower()))
    return rows
