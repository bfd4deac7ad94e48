"""Kill `cotrain run digits` at random moments, go on with --resume, and compare with an uninterrupted run.

Every kill is a SIGKILL: nothing can be tidied up. If a run ends before all kills are spent, another one is started;
each of them must give the same results, byte for byte, as the run that nobody disturbed.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = ("metrics.json", "gains.csv", "grouping.json")


def main() -> int:
    """Print where each kill hit and whether the results are the same; exit code 1 if they are not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--json", type=Path, default=None, help="also write the outcome to this file")
    parser.add_argument("options", nargs="*", help="further options of `cotrain run digits`, after --")
    chosen = parser.parse_args()
    moments = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference"
        startup, work = _reference_run(reference, chosen.options)
        print(f"Undisturbed: {startup:.1f} s to start, {work:.1f} s of work")
        kills, same, studies = [], True, 0
        while len(kills) < chosen.kills:
            studies += 1
            study = Path(folder) / f"killed-{studies}"
            while len(kills) < chosen.kills:
                # On average the kills are spread over one run's work.
                delay = startup + moments.uniform(0, 2 * work / chosen.kills)
                if not _killed_after(delay, study, chosen.options):
                    break
                kills.append({"study": studies, "seconds": round(delay, 2), "during": _last_event(study)})
                print(f"Kill {len(kills)} of {chosen.kills}: after {delay:.1f} s, {kills[-1]['during']}", flush=True)
            _finish(study, chosen.options)
            differing = [name for name in RESULTS if (study / name).read_bytes() != (reference / name).read_bytes()]
            same = same and not differing
            print(f"Study {studies}: {f'{differing} DIFFER' if differing else f'{list(RESULTS)} are the same'}")
    if chosen.json:
        record = {
            "machine": {"processor": platform.processor() or platform.machine(), "system": platform.platform()},
            "versions": {name: version(name) for name in ("cotrain", "torch", "numpy", "scipy")},
            "seed": chosen.seed,
            "kills": kills,
            "same": same,
        }
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0 if same else 1


def _command(study: Path, options: list[str]) -> list[str]:
    code = "from cotrain.cli import main; raise SystemExit(main())"
    return [sys.executable, "-c", code, "run", "digits", "--out", str(study), "--resume", *options]


def _reference_run(study: Path, options: list[str]) -> tuple[float, float]:
    """Seconds until the study's folder is there, and from then to the end."""
    started = time.monotonic()
    process = subprocess.Popen(_command(study, options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (study / "study.yaml").exists():
        time.sleep(0.05)
    ready = time.monotonic()
    if process.wait() != 0:
        raise SystemExit("The undisturbed run failed; look at it with: cotrain run digits")
    return ready - started, time.monotonic() - ready


def _killed_after(seconds: float, study: Path, options: list[str]) -> bool:
    """Whether the run was killed; False if it ended by itself."""
    process = subprocess.Popen(_command(study, options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def _last_event(study: Path) -> str:
    log = study / "events.jsonl"
    if not log.exists():
        return "before the study began"
    event = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    return f"last event: {event['event']} {event.get('step', '')}".strip()


def _finish(study: Path, options: list[str]) -> None:
    subprocess.run(_command(study, options), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    raise SystemExit(main())
