"""STG-MTL on Fashion-MNIST: 15 tasks in 3 clusters, with the published features and with the default, over seeds.

Prints the tables of docs/data-maps.md. The network has BatchNorm and dropout and trains 6 epochs, about as the one
that was published for CIFAR10. Use: python benchmarks/fashion_clusters.py [--seeds 5] [--json FILE]
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cotrain import SharedTrunk, fit
from cotrain.affinity import (
    DataMap,
    kinship,
    kinship_features,
    label_correlation,
    learnability,
    prediction_correlation,
    task_features,
)
from cotrain.data import load_fashion_mnist
from cotrain.evaluation import packed_outputs
from cotrain.grouping import adjusted_rand_index, between_share, cluster_tasks

N_CLUSTERS, EPOCHS, PUBLISHED_FUZZINESS = 3, 6, 1.07
FOOTWEAR = {"sandal", "sneaker", "ankle_boot", "footwear", "not_footwear"}


def main() -> None:
    """Train, cluster and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    data = load_fashion_mnist()
    runs = []
    for seed in range(chosen.seeds):
        runs.append(_measured(data, seed))
        print(f"seed {seed}: noise {runs[-1]['noise']}", flush=True)
    found = {
        "raw": _clusters(data, runs, "raw", noise=False, fuzziness=PUBLISHED_FUZZINESS),
        **{
            kind: _clusters(data, runs, kind, noise=True, fuzziness=None)
            for kind in ("combined", "standardised", "signed", "raw without noise", "labels")
        },
    }
    print("\n| features | seeds | clusters | footwear together | only they | ARI between seeds | difficulty share |")
    print("|---|---|---|---|---|---|---|")
    for kind, record in found.items():
        _print_row(kind, record, data.tasks.names)
    _print_memberships(found["raw"], data.tasks.names)
    if chosen.json:
        chosen.json.write_text(json.dumps({"runs": runs_record(runs), "clusters": found}, indent=1) + "\n")


def _measured(data, seed: int) -> dict:
    torch.manual_seed(seed)
    model = SharedTrunk(_trunk(), data.tasks, 128)
    recorder = DataMap(len(data.train), data.tasks)
    fit(
        model, data.tasks, data.train.pair, data.valid.pair,
        epochs=EPOCHS, batch_size=128, patience=None, instruments=[recorder], seed=seed,
    )  # fmt: skip
    outputs = packed_outputs(model, data.tasks, data.valid.pair)
    return {
        "maps": recorder.result(),
        "predictions": prediction_correlation(data.tasks, outputs),
        "noise": list(learnability(data.tasks, outputs, data.valid.targets).noise),
    }


def _trunk() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(32 * 49, 128),
        nn.ReLU(),
        nn.Dropout(0.2),
    )


def _clusters(data, runs: list[dict], kind: str, *, noise: bool, fuzziness: float | None) -> dict:
    """Each run clustered on its own, and all runs together."""
    labels = label_correlation(data.tasks, data.train.targets)
    matrices, clusterings = [], []
    for run in runs:
        left_out = run["noise"] if noise else ()
        if kind == "labels":
            flagged = torch.tensor([name in left_out for name in data.tasks.names])
            own = torch.where(flagged | flagged[:, None], torch.nan, labels)
            features = kinship_features(kinship(labels=own), data.tasks.names)
        else:
            features = task_features(
                run["maps"], kind.split()[0], predictions=run["predictions"], labels=labels, left_out=left_out
            )
        matrices.append(features.matrix.numpy())
        clusterings.append(
            cluster_tasks(matrices[-1], data.tasks.names, N_CLUSTERS, fuzziness=fuzziness, noise=left_out)
        )
    everywhere = set.intersection(*(set(run["noise"]) for run in runs)) if noise else ()
    together = cluster_tasks(matrices, data.tasks.names, N_CLUSTERS, fuzziness=fuzziness, noise=everywhere)
    difficulty = [run["maps"].confidence.nanmean(0).numpy() for run in runs]
    pairs = combinations((clustering.labels for clustering in clusterings), 2)
    return {
        "seeds": [[list(group) for group in clustering.groups] for clustering in clusterings],
        "memberships": [clustering.memberships.tolist() for clustering in clusterings],
        "consensus": [list(group) for group in together.groups],
        "consensus_memberships": together.memberships.tolist(),
        "stability": float(np.mean([adjusted_rand_index(one, other) for one, other in pairs])),
        "difficulty_share": float(
            np.mean(
                [between_share(d, clustering.labels) for d, clustering in zip(difficulty, clusterings, strict=True)]
            )
        ),
    }


def _print_row(kind: str, record: dict, names: tuple[str, ...]) -> None:
    groups = [[set(group) for group in seed] for seed in record["seeds"]]
    together = sum(any(group >= FOOTWEAR for group in seed) for seed in groups)
    alone = sum(FOOTWEAR in seed for seed in groups)
    words = "; ".join(_words(group, names) for group in record["consensus"])
    print(
        f"| {kind} | {len(groups)} | {words} | {together} of {len(groups)} | {alone} of {len(groups)}"
        f" | {record['stability']:.2f} | {record['difficulty_share']:.2f} |"
    )


def _words(group: list[str], names: tuple[str, ...]) -> str:
    return f"the other {len(group)}" if len(group) > len(names) // 2 else "{" + ", ".join(group) + "}"


def _print_memberships(record: dict, names: tuple[str, ...]) -> None:
    """The published view: raw features, memberships of every task, mean over seeds and the worst seed."""
    shares = np.array(record["memberships"])
    coin, member, complement = (names.index(name) for name in ("coin_flip", "footwear", "not_footwear"))
    aligned = []
    for seed in shares:
        of_coin, of_shirt = seed[coin].argmax(), seed[names.index("shirt")].argmax()
        rest = ({0, 1, 2} - {of_coin, of_shirt}).pop()
        aligned.append(seed[:, [rest, of_shirt, of_coin]])
    mean = np.mean(aligned, axis=0)
    print("\n| cluster | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for number, row in enumerate(mean.T):
        print(f"| c{number} | " + " | ".join(f"{value:.2f}" for value in row) + " |")
    alone = sum([set(group) == {"coin_flip"} for group in seed].count(True) for seed in record["seeds"])
    print(f"\ncoin flip alone in its cluster: {alone} of {len(shares)} seeds;", end=" ")
    print(f"its membership there is at least {min(seed[coin, 2] for seed in aligned):.3f};", end=" ")
    worst = max(np.abs(seed[member] - seed[complement]).max() for seed in aligned)
    print(f"super-class and complement differ by at most {worst:.3f}")


def runs_record(runs: list[dict]) -> list[dict]:
    """What is worth keeping of the runs."""
    return [{"noise": run["noise"], "confidence": run["maps"].confidence.nanmean(0).tolist()} for run in runs]


if __name__ == "__main__":
    main()
