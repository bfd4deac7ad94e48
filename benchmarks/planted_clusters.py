"""Do clusters of tasks find planted groups? 24 tasks, 4 groups, three levels of label noise, every kind of features.

Prints the table of docs/data-maps.md: the adjusted Rand index with the planted groups, mean over seeds with its 95 %
interval, at several degrees of relatedness, for every kind of features and every control. With --scale: 100 tasks in
20 groups and 1,000 tasks in 50, with time and memory.
Use: python benchmarks/planted_clusters.py [--scale] [--seeds 6] [--json FILE]
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import nn

from cotrain import SharedTrunk, fit
from cotrain.affinity import (
    DataMap,
    DataMaps,
    TaskGram,
    kinship,
    kinship_features,
    label_correlation,
    prediction_correlation,
    task_features,
)
from cotrain.data import MultiTaskData, make_planted_tasks
from cotrain.evaluation import packed_outputs
from cotrain.grouping import adjusted_rand_index, cluster_tasks, difficulty_matched, difficulty_order, random_partition
from cotrain.optimizers import adam

NOISE = (0.0, 0.15, 0.3)
RELATEDNESS = (0.5, 0.55, 0.6, 0.9)
KINDS = ("raw", "standardised", "signed", "combined")
NETWORKS = 3
SCALES = ((100, 20, 10_000, 20, 256), (1000, 50, 10_000, 20, 512))
"""Tasks, groups, samples, inputs, width."""


def main() -> None:
    """Train, cluster and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    found = _scales() if chosen.scale else _study(chosen.seeds)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def _study(seeds: int) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for relatedness in RELATEDNESS:
        for seed in range(seeds):
            for kind, value in _agreements(relatedness, seed).items():
                found.setdefault(kind, {}).setdefault(str(relatedness), []).append(value)
        print(f"relatedness {relatedness}: done", flush=True)
    print(f"\nAdjusted Rand index with the planted groups, mean and 95 % interval over {seeds} seeds\n")
    print("| features | " + " | ".join(f"relatedness {value}" for value in RELATEDNESS) + " |")
    print("|---|" + "---|" * len(RELATEDNESS))
    for kind, values in found.items():
        print(f"| {kind} | " + " | ".join(_cell(values[str(level)]) for level in RELATEDNESS) + " |")
    return found


def _agreements(relatedness: float, seed: int) -> dict[str, float]:
    n_tasks, n_groups = 24, 4
    noise = [NOISE[(task // n_groups) % len(NOISE)] for task in range(n_tasks)]
    data = make_planted_tasks(n_tasks, n_groups, relatedness=relatedness, label_noise=noise, seed=seed)
    labels = label_correlation(data.tasks, data.train.targets)
    runs = [_measured(data, 64, 10, 64, seed=1000 * seed + network) for network in range(NETWORKS)]
    truth, names = np.array(data.groups), data.tasks.names

    def agreement(features) -> float:
        return adjusted_rand_index(cluster_tasks(features, names, n_groups).labels, truth)

    found = {}
    for kind in KINDS:
        matrices = [
            task_features(maps, kind, predictions=predictions, labels=labels).matrix.numpy()
            for maps, _, predictions in runs
        ]
        found[f"{kind}, one run"] = agreement(matrices[0])
        found[f"{kind}, consensus of {NETWORKS}"] = agreement(matrices)
    maps, gram, predictions = runs[0]
    found["streamed (TaskGram), one run"] = agreement(gram.features().numpy())
    streamed = kinship(dynamics=gram.correlation, predictions=predictions, labels=labels)
    found["combined with TaskGram, one run"] = agreement(kinship_features(streamed, names).matrix.numpy())
    found["control: label correlation"] = agreement(kinship_features(kinship(labels=labels), names).matrix.numpy())
    difficulty = maps.confidence.mean(0).numpy()
    random = np.random.default_rng(seed)
    default = cluster_tasks(matrices, names, n_groups).labels
    found["control: by difficulty"] = adjusted_rand_index(difficulty_order(default, difficulty), truth)
    matched = [difficulty_matched(default, difficulty, random) for _ in range(20)]
    found["control: difficulty-matched"] = float(np.mean([adjusted_rand_index(part, truth) for part in matched]))
    drawn = [random_partition(default, random) for _ in range(20)]
    found["control: random, equal sizes"] = float(np.mean([adjusted_rand_index(part, truth) for part in drawn]))
    return found


def _measured(data: MultiTaskData, width: int, epochs: int, batch_size: int, *, seed: int):
    torch.manual_seed(seed)
    n_inputs = data.input_shape[0]
    trunk = nn.Sequential(nn.Linear(n_inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    model = SharedTrunk(trunk, data.tasks, width)
    recorder, gram = DataMap(len(data.train), data.tasks), TaskGram(data.tasks)
    fit(
        model, data.tasks, data.train.pair, data.valid.pair, epochs=epochs, batch_size=batch_size,
        optimizer=adam(3e-3), patience=None, instruments=[recorder, gram], seed=seed,
    )  # fmt: skip
    outputs = packed_outputs(model, data.tasks, data.valid.pair)
    maps: DataMaps = recorder.result()
    return maps, gram.result(), prediction_correlation(data.tasks, outputs)


def _scales() -> list[dict[str, float]]:
    found = []
    print("| tasks | groups | features | ARI | seconds in all | of them training | clustering | peak memory, GiB |")
    print("|---|---|---|---|---|---|---|---|")
    for n_tasks, n_groups, n_samples, n_inputs, width in SCALES:
        started = time.perf_counter()
        noise = [NOISE[(task // n_groups) % len(NOISE)] for task in range(n_tasks)]
        data = make_planted_tasks(n_tasks, n_groups, n_samples=n_samples, n_features=n_inputs, label_noise=noise)
        labels = label_correlation(data.tasks, data.train.targets)
        trained = time.perf_counter()
        maps, _, predictions = _measured(data, width, 10, 64, seed=0)
        trained = time.perf_counter() - trained
        for kind in KINDS:
            begun = time.perf_counter()
            features = task_features(maps, kind, predictions=predictions, labels=labels).matrix.numpy()
            labelling = cluster_tasks(features, data.tasks.names, n_groups).labels
            clustered = time.perf_counter() - begun
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            agreement = adjusted_rand_index(labelling, np.array(data.groups))
            total = time.perf_counter() - started
            found.append({
                "tasks": n_tasks, "groups": n_groups, "features": kind, "ari": agreement, "seconds": total,
                "training": trained, "clustering": clustered, "gib": peak,
            })  # fmt: skip
            print(
                f"| {n_tasks:,} | {n_groups} | {kind} | {agreement:.2f} | {total:.0f} | {trained:.0f} | {clustered:.1f}"
                f" | {peak:.2f} |",
                flush=True,
            )
    return found


def _cell(values: list[float]) -> str:
    mean = np.mean(values)
    if len(values) < 2 or np.ptp(values) == 0:
        return f"{mean:.2f}"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{mean:.2f} ± {half:.2f}"


if __name__ == "__main__":
    main()
