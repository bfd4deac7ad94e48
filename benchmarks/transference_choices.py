"""How often the closed form picks the subset that the exact power set does, by learning rate.

A small MLP learns 6 tasks of handwritten digits. At every step the closed form's subset and the best of all 63 subsets
by exact lookahead are compared at the same parameters, each at its own norm; the training itself takes the joint step.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from cotrain import Batch, SharedTrunk
from cotrain.aggregation.transference_aggregation import TransferenceAggregation
from cotrain.data import load_digits

STEPS, BATCH = 200, 128
TASKS = ["is_0", "is_8", "closed_loop", "odd", "is_3", "is_5"]
RATES = (1e-4, 1e-3, 1e-2, 0.05, 0.2)


def main() -> None:
    """Train once per rate, and print how often the two agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    found = [_compared(rate, seed) for rate in chosen.rates for seed in range(chosen.seeds)]
    print(
        "| learning rate | same subset | steps with a task left out, closed form / exact | score of the pick / best |"
    )
    print("|---|---|---|---|")
    for rate in chosen.rates:
        rows = [row for row in found if row["rate"] == rate]
        same, closed, exact, share = (
            sum(row[key] for row in rows) / len(rows) for key in ("same", "closed_left_out", "exact_left_out", "share")
        )
        print(f"| {rate:g} | {same:.1%} | {closed:.1%} / {exact:.1%} | {share:.3f} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _compared(rate: float, seed: int) -> dict[str, float]:
    data = load_digits(targets=TASKS)
    inputs, targets = data.train.pair
    torch.manual_seed(seed)
    trunk = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, 16),
        nn.ReLU(),
    )
    model = SharedTrunk(trunk, data.tasks, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    picks: list[Tensor] = []
    common = {"equal_norm": False, "hysteresis": 0.0, "min_rate": 0.0, "lr": rate}
    exact = TransferenceAggregation(
        candidates="power-set", on_choice=lambda choice: picks.append(choice.weights), **common
    )  # type: ignore[arg-type]
    closed = TransferenceAggregation(
        candidates="closed-form", exact=False, on_choice=lambda choice: picks.append(choice.weights), **common
    )  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    same = closed_left_out = exact_left_out = 0
    got = best = 0.0
    for _ in range(STEPS):
        index = torch.randint(len(inputs), (BATCH,), generator=generator)
        batch = Batch(index, inputs[index], targets[index])
        picks.clear()
        for aggregation in (exact, closed):
            optimizer.zero_grad()
            aggregation.backward(model, data.tasks, batch)
        same += torch.equal(picks[0], picks[1])
        exact_left_out += bool((picks[0] == 0).any())
        closed_left_out += bool((picks[1] == 0).any())
        decision = exact.decision
        assert decision is not None
        name = "+".join(task for task, weight in zip(data.tasks.names, picks[1].tolist(), strict=True) if weight)
        got += decision.scores.get(name, decision.scores["joint"])
        best += decision.scores[decision.picked]
        optimizer.zero_grad()
        data.tasks.losses(model(batch.inputs), batch.targets).sum().backward()
        optimizer.step()
    return {
        "rate": rate,
        "seed": seed,
        "same": same / STEPS,
        "closed_left_out": closed_left_out / STEPS,
        "exact_left_out": exact_left_out / STEPS,
        "share": got / best,
    }


if __name__ == "__main__":
    main()
