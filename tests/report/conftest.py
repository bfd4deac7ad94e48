"""A study's folder with known numbers, written the way a study writes it."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from cotrain.report.clusters import Clusters
from cotrain.report.contents import Study, read_study

DIGITS = (*(f"is_{digit}" for digit in range(10)), "closed_loop", "odd", "upside_down", "not_closed_loop", "coin_flip")
ARMS = ("single", "all-in-one", "grouped", "random-1", "random-2", "random-3")
PAIR_COLUMNS = ("source", "target", "affinity", "stderr", "observations", "label_correlation", "gradient_cosine")
GAIN_COLUMNS = ("arm", "network", "trains", "task", "role", "predicted", "predicted_std", "seed", "realised")


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study's folder: `make_folder(names=..., seeds=..., check=..., method=...)`; returns its path.

    The last task is noise, the others are dealt to three networks; the first task also helps network 2.
    """

    def make(
        names: Sequence[str] = DIGITS,
        seeds: Sequence[int] = (0, 1, 2),
        check: str = "full",
        n_samples: int = 200,
        method: str = "transference",
        folder: Path = tmp_path,
    ) -> Path:
        rng = np.random.default_rng(7)
        noise = names[-1]
        groups = _groups(names[:-1])
        folder.mkdir(exist_ok=True)
        (folder / "study.yaml").write_text(
            yaml.safe_dump({"data": "digits", "budget": 3, "seeds": list(seeds), "check": check, "method": method})
        )
        (folder / "measure.json").write_text(json.dumps(_measure(names, noise, rng)))
        matrix = _write_affinity(folder, names, groups, rng)
        save_file(_maps(len(names), n_samples, rng), folder / "data_maps.safetensors")
        decision: dict[str, Any] = {
            "budget": 3,
            "grouping": {
                "groups": groups,
                "value": 0.0421,
                "bound": 0.0421,
                "gap": 0.0,
                "status": "optimal",
                "objective": "mean_score",
                "solver": "HiGHS",
            },
            "noise": [noise],
            "method": method,
            "prediction": "pair mean of lookahead affinity",
        }
        if check == "none":
            decision["verdict"] = _verdict("unchecked", "Groups proposed, none of them checked", "grouped")
        (folder / "grouping.json").write_text(json.dumps(decision))
        arms = {"grouped": groups, "all-in-one": [{"trains": list(names), "serves": list(names)}]}
        _write_gains(folder, arms, matrix, list(names), seeds if check != "none" else (), rng)
        if check != "none":
            _write_checked(folder, names, noise, groups, seeds, check, rng)
        steps = {"data": 1.25, "measure": 41.5, "decide": 0.4, "check": 130.0}
        lines = [
            json.dumps({"time": "2026-01-05T10:00:00", "event": "step-finished", "step": step, "seconds": spent})
            for step, spent in steps.items()
        ]
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
        return folder

    return make


def _groups(names: Sequence[str]) -> list[dict[str, list[str]]]:
    groups = [{"trains": list(names[k::3]), "serves": list(names[k::3])} for k in range(3) if names[k::3]]
    if len(groups) > 1:
        groups[1]["trains"] = [names[0], *groups[1]["trains"]]
    return groups


def _measure(names: Sequence[str], noise: str, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "data": {"name": "digits", "n_train": 1078, "n_valid": 359, "n_test": 360, "input_shape": [1, 8, 8]},
        "estimator": "lookahead",
        "rule": "Adam step, lr 0.001",
        "joint_step_lowers_loss": 0.97,
        "cost_in_plain_steps": 1.6,
        "tasks": [
            {
                "name": name,
                "kind": "binary",
                "note": f"1 where the image meets condition {t}; base rate {0.1 + 0.02 * t:.2f}",
                "learnable": name != noise,
                "statistic": "AUC",
                "value": 0.51 if name == noise else float(rng.uniform(0.95, 1.0)),
                "p_value": 0.41 if name == noise else 0.0,
                "confidence": 0.5 if name == noise else 0.93,
            }
            for t, name in enumerate(names)
        ],
        "versions": {"cotrain": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"},
        "machine": {"system": "Linux", "cpus": 2},
        "parameters_per_network": 12345,
    }


def _write_affinity(
    folder: Path, names: Sequence[str], groups: Sequence[Mapping[str, Sequence[str]]], rng: np.random.Generator
) -> Any:
    n_tasks = len(names)
    served = {task: k for k, group in enumerate(groups) for task in group["serves"]}
    together = np.array([[served.get(a, -1) == served.get(b, -2) for b in names] for a in names])
    matrix = 0.01 * together + rng.normal(0, 0.004, (n_tasks, n_tasks))
    labels = np.clip(rng.normal(0, 0.3, (n_tasks, n_tasks)), -1, 1)
    labels = (labels + labels.T) / 2
    np.fill_diagonal(labels, 1.0)
    with (folder / "affinity.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(PAIR_COLUMNS)
        for i, source in enumerate(names):
            for j, target in enumerate(names):
                writer.writerow([source, target, matrix[i, j], 0.003, 90, labels[i, j], labels[i, j] / 2])
    return matrix


def _maps(n_tasks: int, n_samples: int, rng: np.random.Generator) -> dict[str, Any]:
    ease = np.linspace(6, 1.5, n_tasks)
    ease[-1] = 0.0
    logits = ease + rng.normal(0, 2.0, (n_samples, n_tasks))
    confidence = 1 / (1 + np.exp(-logits))
    variability = 0.8 * confidence * (1 - confidence) * rng.uniform(0.4, 1.0, (n_samples, n_tasks))
    variability += 0.2 * np.sqrt(confidence * (1 - confidence)) * rng.uniform(0, 1, (n_samples, n_tasks))
    maps = {"confidence": confidence, "variability": variability, "correctness": confidence > 0.5}
    return {name: values.astype(np.float32) for name, values in maps.items()}


def _write_gains(
    folder: Path,
    arms: Mapping[str, Sequence[Mapping[str, Sequence[str]]]],
    matrix: Any,
    names: list[str],
    seeds: Sequence[int],
    rng: np.random.Generator,
) -> None:
    with (folder / "gains.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(GAIN_COLUMNS)
        for arm, groups in arms.items():
            for network, group in enumerate(groups):
                for task in group["trains"]:
                    others = [names.index(other) for other in group["trains"] if other != task]
                    predicted = float(np.mean(matrix[others, names.index(task)])) if others else 0.0
                    role = "serves" if task in group["serves"] else "helps"
                    known = [arm, network, "+".join(group["trains"]), task, role, predicted, 0.002]
                    for seed in seeds or ("",):
                        realised = 6 * predicted + rng.normal(0, 0.04) if seeds else ""
                        writer.writerow([*known, seed, realised])


def _write_checked(
    folder: Path,
    names: Sequence[str],
    noise: str,
    groups: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    check: str,
    rng: np.random.Generator,
) -> None:
    networks = {"single": len(names), "all-in-one": 1}
    level = {"single": 0.97, "all-in-one": 0.96, "grouped": 0.98}
    results = {
        arm: [
            {
                "seed": seed,
                "loss": {name: float(0.1 + rng.uniform(0, 0.02)) for name in names},
                "metric": {name: 0.5 if name == noise else level.get(arm, 0.965) + 0.001 * place for name in names},
            }
            for place, seed in enumerate(seeds)
        ]
        for arm in ARMS
    }
    means = {"all-in-one": 1.02, "grouped": 0.94, "random-1": 0.985, "random-2": 1.01, "random-3": 0.99}
    several = len(seeds) > 1
    relative = {
        arm: {
            "mean": mean,
            "low": mean - 0.03 if several else None,
            "high": mean + 0.03 if several else None,
            "per_seed": [mean + 0.01 * (place - (len(seeds) - 1) / 2) for place in range(len(seeds))],
        }
        for arm, mean in means.items()
    }
    metrics = {
        "check": check,
        "seeds": list(seeds),
        "tasks": [
            {"name": name, "kind": "binary", "metric": "auroc", "better": "higher", "learnable": name != noise}
            for name in names
        ],
        "arms": {
            arm: {
                "networks": networks.get(arm, len(groups)),
                "parameters": 12345 * networks.get(arm, len(groups)),
                "groups": groups,
                "results": results[arm],
            }
            for arm in ARMS
        },
        "relative_loss": relative,
        "prediction": {"pearson": 0.4321, "within_task": 0.1234, "task_mean_baseline": 0.61, "n": 60},
        "verdict": _verdict("groups", "Train in 3 groups: 6 % less loss than alone", "grouped"),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with (folder / "front.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("arm", "networks", "parameters", "relative_loss", "low", "high", "dominated"))
        for arm in ARMS:
            mean = means.get(arm, 1.0)
            count = networks.get(arm, len(groups))
            interval = (mean - 0.03, mean + 0.03) if several and arm != "single" else ("", "")
            writer.writerow((arm, count, 12345 * count, mean, *interval, arm not in ("all-in-one", "grouped")))


def _verdict(code: str, headline: str, recommended: str) -> dict[str, Any]:
    return {
        "code": code,
        "headline": headline,
        "sentences": [
            "The chosen groups have a total loss of 0.94 of the single tasks [0.91, 0.97] over 3 seeds.",
            "They beat each of 3 random covers of the same cost.",
        ],
        "recommended": recommended,
    }


@pytest.fixture
def make_clustered(make_folder: Callable[..., Path]) -> Callable[..., Path]:
    """As `make_folder`, of a study whose groups are clusters of data maps; `clusters` replaces fields of clusters.json.

    The file numbers the clusters the other way round than the networks, and the second last task is learned by
    everybody.
    """

    def make(names: Sequence[str] = DIGITS, clusters: Mapping[str, Any] | None = None, **options: Any) -> Path:
        folder = make_folder(names=names, method="data-maps", **options)
        decision = json.loads((folder / "grouping.json").read_text())
        decision["prediction"] = "kinship in combined features of the data maps of 3 runs"
        decision["grouping"] |= {"value": None, "bound": None, "gap": None, "status": "given", "solver": "clusters"}
        (folder / "grouping.json").write_text(json.dumps(decision))
        record = _clusters(names, decision["grouping"]["groups"])
        (folder / "clusters.json").write_text(json.dumps(record | dict(clusters or {})))
        save_file(_thumbnails(len(names)), folder / "thumbnails.safetensors")
        if (folder / "metrics.json").exists():
            _add_controls(folder)
        return folder

    return make


CLUSTERED = ("a", "b", "c", "d", "e", "known", "noise")


@pytest.fixture
def clustered(make_clustered: Callable[..., Path]) -> Study:
    """Five tasks in three clusters, one that is learned by everybody, and noise."""
    return read_study(make_clustered(names=CLUSTERED))


@pytest.fixture
def clusters(clustered: Study) -> Clusters:
    """Those of `clustered`."""
    assert clustered.clusters is not None
    return clustered.clusters


def _clusters(names: Sequence[str], groups: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    n_clusters = len(groups)
    network = {task: k for k, group in enumerate(groups) for task in group["serves"] if task != names[-2]}
    labels = [n_clusters - 1 - network[name] if name in network else -1 for name in names]
    own = np.eye(n_clusters)[labels] * 0.6 + 0.4 * rng.dirichlet(np.ones(n_clusters), len(names))
    members = [name for name in names if name in network]
    return {
        "features": "combined",
        "runs": 3,
        "mode": "fuzzy_kmeans",
        "fuzziness": 1.69873,
        "tasks": list(names),
        "labels": labels,
        "memberships": (own * (np.array(labels) >= 0)[:, None]).tolist(),
        "certainty": [round(1 / (1 + 0.05 * t), 2) if labels[t] >= 0 else None for t in range(len(names))],
        "stability": 0.87654,
        "restart_agreement": 0.76543,
        "noise": [names[-1]],
        "universal": [names[-2]],
        "difficulty": [0.9] * len(names),
        "difficulty_share": 0.654,
        "sizes": [{"n_clusters": k, "stability": 0.9 - 0.1 * k, "silhouette": 0.1 * k} for k in (2, 3, 4)],
        "tree": {
            "tasks": members,
            "linkage": [
                [len(members) + i - 1 if i else 0, i + 1, 0.5 + 0.1 * i, i + 2] for i in range(len(members) - 1)
            ],
        },
        "controls": {
            "label-correlation": labels,
            "by-difficulty": [min(t, n_clusters - 1) if labels[t] >= 0 else -1 for t in range(len(names))],
        },
    }


def _thumbnails(n_tasks: int) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    tensors: dict[str, Any] = {}
    for name in ("hardest", "most_ambiguous"):
        tensors[name] = rng.integers(0, 256, (min(n_tasks, 60), 8, 6, 5, 1), dtype=np.uint8)
        tensors[f"{name}_places"] = rng.uniform(0, 0.5, (min(n_tasks, 60), 8, 2)).astype(np.float32)
    return tensors


def _add_controls(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    seeds = metrics["seeds"]

    def relative(mean: float) -> dict[str, Any]:
        wide = 0.02 if len(seeds) > 1 else None
        ends = (mean - wide, mean + wide) if wide else (None, None)
        return {"mean": mean, "low": ends[0], "high": ends[1], "per_seed": [mean] * len(seeds)}

    for place, name in enumerate(("by-difficulty", "difficulty-matched", "label-correlation")):
        metrics["arms"][name] = metrics["arms"]["random-1"]
        metrics["relative_loss"][name] = relative(1.11 + 0.1 * place)
    ways = [(variant, by) for variant in ("soft", "sparse") for by in ("logits", "probabilities", "best")]
    metrics["memberships"] = [
        {"variant": variant, "by": by, "networks": 3, "cost": 3.0, **relative(0.91 + 0.01 * place)}
        for place, (variant, by) in enumerate(ways)
    ]
    wider = {"variant": "wider", "by": None, "networks": 1, "cost": 3.0123, **relative(0.89)}
    metrics["memberships"].append(wider)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with (folder / "front.csv").open("a", newline="") as file:
        csv.writer(file).writerow(("by-difficulty", 3, 37035, 1.11, 1.09, 1.13, True))
    with (folder / "gains.csv").open("a", newline="") as file:
        network = "+".join(metrics["arms"]["grouped"]["groups"][0]["trains"])
        task = network.partition("+")[0]
        csv.writer(file).writerow(("by-difficulty", 0, network, task, "serves", 0.01, 0.002, seeds[0], 0.05))


@pytest.fixture
def make_searched(make_folder: Callable[..., Path]) -> Callable[..., Path]:
    """As `make_folder`, of a study that trained groups to learn which to choose; `trainings` replaces fields.

    First every task alone and all together, then the chosen groups, then every pair with the first task, one a round.
    Every partner takes a tenth of the loss from tasks of even place, and adds a twentieth to the others.
    """

    def make(
        names: Sequence[str] = DIGITS,
        trainings: Mapping[str, Any] | None = None,
        method: str = "search",
        **options: Any,
    ) -> Path:
        folder = make_folder(names=names, method=method, **options)
        decision = json.loads((folder / "grouping.json").read_text())
        decision["prediction"] = "Error 0.012 on 9 trained groups, each left out in turn: 1.00 ridge (0.012)."
        decision["grouping"] |= {"objective": "total_loss", "n_candidates": 20}
        (folder / "grouping.json").write_text(json.dumps(decision))
        learnable = list(names[:-1])
        chosen = [group["trains"] for group in decision["grouping"]["groups"]]
        (folder / "trainings.json").write_text(json.dumps(_trainings(learnable, chosen) | dict(trainings or {})))
        return folder

    return make


def _trainings(tasks: Sequence[str], chosen: Sequence[Sequence[str]]) -> dict[str, Any]:
    rounds: list[dict[str, Any]] = [
        {"trained": [[task] for task in tasks], "why": "first", "expected": None, "value": None},
        {"trained": [list(tasks)], "why": "first", "expected": None, "value": -0.5},
        {"trained": [group for group in map(list, chosen) if len(group) > 1], "why": "chosen", "expected": None},
    ]
    known = [group for entry in rounds for group in entry["trained"]]
    pairs = [[tasks[0], task] for task in tasks[1:] if [tasks[0], task] not in known]
    rounds += [{"trained": [pair], "why": "improvement", "expected": 0.2} for pair in pairs]
    for place, entry in enumerate(rounds[2:]):
        entry["value"] = round(0.25 + 0.01 * place, 2)
    groups = [group for entry in rounds for group in entry["trained"]]
    return {
        "tasks": list(tasks),
        "limit": len(groups) + 3,
        "settled": True,
        "rounds": rounds,
        "losses": [
            {"loss": {task: 0.3 * (1.05 if tasks.index(task) % 2 else 0.9) ** (len(group) - 1) for task in group}}
            for group in groups
        ],
    }
