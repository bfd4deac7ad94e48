"""Turn the JSON of a benchmark into a Markdown table for the docs.

Use: python benchmarks/table.py fleet.json
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Print the table and where it was measured."""
    record = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print("| case | against | times as fast | smallest to largest |")
    print("|---|---|---|---|")
    for row in record["comparisons"]:
        spread = f"{row['low']:.2f} to {row['high']:.2f}, {row['rounds']} rounds"
        print(f"| {row['case']} | {row['against']} | **{row['ratio']:.2f}** | {spread} |")
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    print(f"\nMeasured in one run with {record['threads']} thread(s) on {record['machine']['system']}; {versions}.")


if __name__ == "__main__":
    main()
