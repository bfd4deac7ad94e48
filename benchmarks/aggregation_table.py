"""Turn the JSON of bench_aggregation.py or bench_transference_aggregation.py into the docs' tables of costs.

Costs are in plain training steps. Use: python benchmarks/aggregation_table.py aggregation.json [another part ...]
"""

import json
import sys
from pathlib import Path

PLAIN = "a plain step", "a plain training step"


def main() -> None:
    """Print the table, one line per method, and where it was measured."""
    records = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    record = records[0]
    rows = [row for part in records for row in part["comparisons"] if row["against"] in PLAIN]
    cases = sorted({row["case"] for row in rows}, key=lambda case: (case.split(", ")[0], int(case.rpartition(" ")[2])))
    steps = {(row["way"], row["case"]): 1 / row["ratio"] for row in rows}
    print(f"| plain steps | {' | '.join(cases)} |")
    print("|---" * (len(cases) + 1) + "|")
    for way in sorted({row["way"] for row in rows}, key=lambda way: steps.get((way, cases[-1]), float("inf"))):
        figures = [f"{steps[way, case]:.1f}" if (way, case) in steps else "-" for case in cases]
        print(f"| {way} | {' | '.join(figures)} |")
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    print(f"\nMeasured side by side with {record['threads']} thread(s) on {record['machine']['system']}; {versions}.")


if __name__ == "__main__":
    main()
