"""How long `boxrl quickstart` takes, what it teaches, and its training beside TRL's own path.

    python perf/quickstart.py [--rounds 3] [--steps 8] [--json]

The whole chain once, in a process of its own. Then the first steps of its training in processes
that take turns: with the prompt shared, and with `engine.shared_prefix=false`, TRL's own path. The
tiny VLM has prompts of about a hundred tokens, so little is saved: perf/grpo_step.py has the
sizes of larger models.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import print_tables, spread

MAIN = "import sys; from boxrl.cli import main; sys.exit(main())"
FIGURES = {"format": "format_rate", "mAP": "mAP", "precision": "precision@0.5"}
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def run(*words: str) -> float:
    """Seconds of `boxrl WORDS`, the start of Python included."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", MAIN, *words], check=True, **QUIET)
    return time.perf_counter() - began


def run_chain(out: Path) -> dict[str, Any]:
    """The quickstart as a user runs it."""
    row: dict[str, Any] = {"seconds": round(run("quickstart", "--out", str(out)))}
    for name, key in FIGURES.items():
        before, after = (
            json.loads((out / "evals" / f"{when}_greedy" / "metrics.json").read_text("utf-8"))[key]
            for when in ("before", "after")
        )
        row[f"{name}, greedy"] = f"{before:.3f} → {after:.3f}"
    return row


def step_seconds(out: Path, steps: int, shared: bool) -> float:
    """Mean seconds of a training step after the first."""
    settings = [f"train.max_steps={steps}", f"engine.shared_prefix={str(shared).lower()}"]
    settings += ["data.synthetic.train=64", "data.synthetic.test=8", f"out={out}"]
    run("train", "recipes/quickstart.yaml", *settings)
    lines = (out / "metrics.jsonl").read_text("utf-8").splitlines()
    first, last = (json.loads(lines[place])["time_s"] for place in (0, -1))
    return (last - first) / (steps - 1)


def main() -> None:
    """The chain, then both paths in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.chdir(Path(__file__).parents[1])
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        chain = run_chain(folder / "chain")
        for number in range(args.rounds):
            for shared, times in seconds.items():
                times.append(step_seconds(folder / f"{number}{shared}", args.steps, shared))
    ours, theirs = seconds.values()
    steps = {
        "completions": 64,
        "trl s": spread(theirs, 3),
        "boxrl s": spread(ours, 3),
        "times as fast": spread([t / o for t, o in zip(theirs, ours, strict=True)]),
    }
    print_tables({"The whole chain, 300 held-out scenes": [chain], "A step": [steps]}, args.json)


if __name__ == "__main__":
    main()
