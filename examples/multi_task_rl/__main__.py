"""Multi-task soft actor-critic: compare ways to combine the tasks' gradients, over several seeds.

Use: python examples/multi_task_rl --out rl
     python examples/multi_task_rl --suite mt10 --steps 10000 --seeds 0 --out mt10

The second call with the same folder goes on where the first one stopped.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from comparison import compare, table
from picture import draw_curves
from plans import PLANS
from suites import SUITES, make_suite


def main() -> None:
    """Train, print the table, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, default="swing-up")
    parser.add_argument(
        "--aggregations", nargs="+", default=["sum", "pcgrad", "transference"], help="names known to cotrain"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="actions per row of environments")
    parser.add_argument("--random-steps", type=int, help="of these, before the first update")
    parser.add_argument("--score-every", type=int, help="rounds of episodes between two scores")
    parser.add_argument("--max-seconds", type=float, default=float("inf"), help="per training and call")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints, curves and picture")
    options = parser.parse_args()
    torch.set_num_threads(1)  # small matrices: further threads cost more than they bring
    plan = PLANS[options.suite]
    asked = {"steps": options.steps, "random_steps": options.random_steps, "score_every": options.score_every}
    plan = replace(plan, **{name: value for name, value in asked.items() if value is not None})
    suite = make_suite(options.suite, plan.copies)
    outcomes = compare(suite, plan, options.aggregations, options.seeds, options.out, max_seconds=options.max_seconds)
    if not all(run.curve.steps for runs in outcomes.values() for run in runs):
        print("Not every training has a score yet: run the same command again.")
        return
    print(table(outcomes, with_success=suite.reports_success))
    curves = {name: [run.curve for run in runs] for name, runs in outcomes.items()}
    draw_curves(curves, options.out / "curves.png")


if __name__ == "__main__":
    main()
