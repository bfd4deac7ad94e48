"""Turn finished studies into the table of docs/study.md.

Use: python benchmarks/study_table.py FOLDER [FOLDER ...]
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Print a row per arm of every study, and its verdict."""
    print("| data | arm | networks | total test loss, single = 1 | 95 % interval |")
    print("|---|---|---|---|---|")
    verdicts = []
    for folder in map(Path, sys.argv[1:]):
        name = json.loads((folder / "measure.json").read_text(encoding="utf-8"))["data"]["name"]
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        for arm, record in metrics["arms"].items():
            loss = metrics["relative_loss"][arm]
            spread = "" if arm == "single" or loss["low"] is None else f"{loss['low']:.3f} to {loss['high']:.3f}"
            print(f"| {name} | {arm} | {record['networks']} | {loss['mean']:.3f} | {spread} |")
        found = metrics["prediction"]
        verdicts.append(
            f"- **{name}** (`--check {metrics['check']}`, {metrics['n_train']:,} training samples,"
            f" {len(metrics['seeds'])} seeds): {metrics['verdict']['headline']} Predicted scores and realised gains"
            f" correlate at {found['pearson']:+.2f} ({found['within_task']:+.2f} within tasks)."
        )
    print("", *verdicts, sep="\n")


if __name__ == "__main__":
    main()
