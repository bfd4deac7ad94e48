"""Fourth step: from test results to totals with intervals, gains, the front of cost and quality, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from cotrain.files import write_json, write_text
from cotrain.metrics import SMALLER_IS_BETTER, primary_metric
from cotrain.study.arms import SINGLE, Arm, is_random, networks_of
from cotrain.study.check import arms_of, network_file, results_file
from cotrain.study.decide import learnable_tasks, predicted_gains
from cotrain.study.folder import StudyFolder
from cotrain.study.gain_table import COLUMNS, Losses, agreement, as_csv, gain_rows
from cotrain.study.setting import Setting
from cotrain.study.verdict import interval, judge

__all__ = ["COMPARED_FILES", "compare", "predict_only"]

COMPARED_FILES = ("metrics.json", "gains.csv", "front.csv")
FRONT_COLUMNS = ("arm", "networks", "parameters", "relative_loss", "low", "high", "dominated")


def predict_only(folder: StudyFolder, setting: Setting) -> None:
    """Write the predicted gains of the chosen groups, without a check."""
    rows = gain_rows(arms_of(folder, setting), predicted_gains(folder), {})
    write_text(folder.path / "gains.csv", as_csv(COLUMNS, map(astuple, rows)))


def compare(folder: StudyFolder, setting: Setting) -> None:
    """Read every seed's test results and write metrics.json, gains.csv and front.csv."""
    results = _Results.read(folder, setting)
    rows = gain_rows(results.arms, predicted_gains(folder), results.losses)
    totals = {arm.name: results.relative_totals(arm) for arm in results.arms}
    n_networks = {arm.name: results.n_networks(arm) for arm in results.arms}
    parameters = folder.read_json("measure.json")["parameters_per_network"]
    agreed = agreement(rows)
    verdict = judge(totals, n_networks).with_sentences(
        agreed.sentence, _on_fewer_samples(setting), _still_improving(folder, setting)
    )
    write_json(
        folder.path / "metrics.json",
        {
            "check": setting.config.check,
            "n_train": len(setting.check_train[0]),
            "seeds": list(results.losses),
            "tasks": _task_records(setting, results.learnable),
            "arms": {
                arm.name: {
                    "networks": n_networks[arm.name],
                    "parameters": parameters * n_networks[arm.name],
                    "groups": results.groups_of(arm),
                    "results": results.per_seed(arm),
                }
                for arm in results.arms
            },
            "relative_loss": {
                name: {**asdict(interval(values)), "per_seed": values} for name, values in totals.items()
            },
            "prediction": asdict(agreed),
            "verdict": asdict(verdict),
        },
    )
    write_text(folder.path / "gains.csv", as_csv(COLUMNS, map(astuple, rows)))
    write_text(folder.path / "front.csv", as_csv(FRONT_COLUMNS, _front(totals, n_networks, parameters)))


def _on_fewer_samples(setting: Setting) -> str | None:
    """A reminder that a quick check was not on all samples."""
    used, there = len(setting.check_train[0]), len(setting.data.train)
    if used == there:
        return None
    return (
        f"The check was on {used:,} of {there:,} training samples: gains on all of them may be others (--check full)."
    )


def _still_improving(folder: StudyFolder, setting: Setting) -> str | None:
    """A warning if networks would have gone on getting better; it is the larger ones that are cut short."""
    last = setting.epochs - 1
    seeds = range(setting.config.seed, setting.config.seed + setting.config.seeds)
    networks = [network for seed in seeds for network in folder.read_json(results_file(seed))["networks"]]
    cut = sum(network["best_epoch"] == last for network in networks)
    if cut == 0:
        return None
    return (
        f"{cut} of {len(networks)} trainings were still improving in their last epoch, which is unfair to them:"
        f" run with more than --epochs {setting.epochs}."
    )


@dataclass(frozen=True)
class _Results:
    """What the check found.

    Args:
        arms: The arms.
        learnable: The tasks that the arms are compared on.
        primary: The metric of each task that the tables show.
        losses: Test losses by seed, network and task.
        metrics: Test metrics by seed, network and task.
    """

    arms: Sequence[Arm]
    learnable: Sequence[str]
    primary: Mapping[str, str]
    losses: Mapping[int, Losses]
    metrics: Mapping[int, Mapping[tuple[str, ...], Mapping[str, Mapping[str, float]]]]

    @classmethod
    def read(cls, folder: StudyFolder, setting: Setting) -> "_Results":
        losses, metrics = {}, {}
        for seed in range(setting.config.seed, setting.config.seed + setting.config.seeds):
            networks = folder.read_json(results_file(seed))["networks"]
            losses[seed] = {tuple(network["trains"]): network["loss"] for network in networks}
            metrics[seed] = {tuple(network["trains"]): network["metrics"] for network in networks}
        primary = {task.name: primary_metric(task) for task in setting.data.tasks}
        return cls(arms_of(folder, setting), learnable_tasks(folder), primary, losses, metrics)

    def relative_totals(self, arm: Arm) -> list[float]:
        """Per seed the arm's total loss over the learnable tasks, relative to single tasks."""
        single = next(other for other in self.arms if other.name == SINGLE)
        return [self._total(arm, losses) / self._total(single, losses) for losses in self.losses.values()]

    def n_networks(self, arm: Arm) -> int:
        """How many of the arm's networks serve a learnable task."""
        return sum(any(task in self.learnable for task in group.serves) for group in arm.groups)

    def groups_of(self, arm: Arm) -> list[dict[str, Any]]:
        """The arm's networks, with the file of the first seed's weights; those of random covers are not kept."""
        number = {network: position for position, network in enumerate(networks_of(self.arms))}
        return [
            {
                "trains": list(group.trains),
                "serves": list(group.serves),
                "model": None if is_random(arm.name) else network_file(number[group.trains]),
            }
            for group in arm.groups
        ]

    def per_seed(self, arm: Arm) -> list[dict[str, Any]]:
        """Per seed every served task's loss and primary metric."""
        served = [(group.trains, task) for group in arm.groups for task in group.serves]
        return [
            {
                "seed": seed,
                "loss": {task: losses[trains][task] for trains, task in served},
                "metric": {task: self.metrics[seed][trains][task][self.primary[task]] for trains, task in served},
            }
            for seed, losses in self.losses.items()
        ]

    def _total(self, arm: Arm, losses: Losses) -> float:
        return sum(
            losses[group.trains][task] for group in arm.groups for task in group.serves if task in self.learnable
        )


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
