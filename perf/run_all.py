"""Run every benchmark and rewrite docs/performance.md, and what README.md takes from it.

    python perf/run_all.py [NAME ...] [--peers PYTHON]

All, or only those named; the sections of the others stay. PYTHON has boxrl and the peers in it
(`make bench` makes it): the benchmarks that need them run there. No figure is typed by hand.
"""

from __future__ import annotations

import argparse
import ast
import math
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "performance.md", ROOT / "README.md"
KEPT = ROOT / "runs" / "full_size.jsonl"
"""What a run of `full_size` counted before it was cut."""
BEGIN, END = "<!-- shared prefix: begin -->", "<!-- shared prefix: end -->"
SEEN = ROOT / "docs" / "shared_prefix.csv"
"""Every measurement of what sharing the prompt gains, for it differs by machine: commit, machine,
and how many times as fast as TRL forward and backward are at each of SIZES."""
SIZES = (256, 576, 1024)
"""Image tokens of which README.md names the gain."""
BENCHMARKS = (
    "rewards", "parse", "evaluate", "coco_eval", "data", "convert", "generate", "grpo_step",
    "sft_step", "full_size", "growth", "report", "cli", "quickstart",
)  # fmt: skip
BESIDE_PEERS = {"parse", "coco_eval", "convert"}
"""Those that run in the peers' Python; `data` starts its peers there by itself."""
INTRODUCTION = """# Performance

What a step of GRPO costs beside TRL: with the prompt shared, and with prompts of an image together.

{lead}
boxrl beside its peers, in one process or interleaved processes, on the same input. Read the
ratios; absolute times belong to the machine that is named in each section. `make bench` rewrites
this page.
"""


def describe_machine() -> str:
    """Processor, cores and Python, in words."""
    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8") if info.is_file() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    cores = text.count("processor\t")
    name = found.group(1) if found else platform.processor() or platform.machine()
    return f"{name}, {cores or '?'} cores, Python {platform.python_version()}"


def read_commit() -> str:
    """The checkout's commit, short."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


def run_benchmark(name: str, peers: str) -> str:
    """The section of one benchmark: what it measures, then what it printed."""
    script = ROOT / "perf" / f"{name}.py"
    words = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    python = peers if name in BESIDE_PEERS else sys.executable
    options = {"data": ("--peers", peers), "full_size": ("--rows", str(KEPT))}
    command = [python, str(script), *options.get(name, ())]
    began = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    seconds = time.monotonic() - began
    if not result.stdout.strip():
        raise SystemExit(f"{script.name}: printed nothing (exit status {result.returncode})")
    printed = result.stdout.strip()
    fenced = f"```text\n{printed}\n```"
    title = words.split("\n")[0].rstrip(".")
    about = words.partition("\n\n")[2].partition("\n\n")[2]
    return (
        f"## {name}: {title}\n\n{about}\n\n"
        f"{printed if '|---' in printed else fenced}\n\n"
        f"*{describe_machine()}; commit {read_commit()}; took {seconds:.0f} s.*\n"
    )


def read_sections() -> dict[str, str]:
    """Sections of the page as it stands, by benchmark."""
    if not PAGE.is_file():
        return {}
    parts = re.split(r"^(?=## )", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {part[3:].partition(":")[0]: part for part in parts}


def read_table(section: str, first: str) -> list[dict[str, str]]:
    """Rows of the first table of a section whose first column is named `first`."""
    found = re.search(rf"^\| {re.escape(first)} \|.*\n(?:\|.*\n)+", f"{section}\n", re.MULTILINE)
    if found is None:
        raise SystemExit(f"{PAGE.name}: no table that begins with {first!r}")
    head, _, *lines = (line.strip("| ").split(" | ") for line in found[0].splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


def read_seen() -> list[list[float]]:
    """Factors of every measurement, by SIZES."""
    lines = SEEN.read_text("utf-8").splitlines()[1:]
    return [[float(value) for value in line.split(",")[2:]] for line in lines]


def note_gain(section: str) -> None:
    """Add what `grpo_step` has measured to SEEN."""
    found = []
    for size in SIZES:
        row = re.search(rf"^\| {size} \| 100 \| 1 \|[^|]*\|[^|]*\| ([\d.]+)", section, re.MULTILINE)
        if row is None:
            raise SystemExit(f"{PAGE.name}: no row of {size} image tokens under grpo_step")
        found.append(row[1])
    machine = describe_machine().partition(", Python")[0].replace(",", ";")
    with SEEN.open("a", encoding="utf-8") as handle:
        handle.write(",".join([read_commit(), machine, *found]) + "\n")


def render_lead(sections: dict[str, str]) -> str:
    """The table that the page begins with: what a prompt costs by each way."""
    lowest, highest = _range(read_seen())
    together = {
        int(row["image tokens"]): float(row["times as fast"].split()[0])
        for row in read_table(
            sections["grpo_step"], "image tokens | completion | prompts of the image"
        )
        if row["prompts of the image"] == "4"
    }
    step = "Forward and backward of a prompt, 8 completions of 100 tokens (counted: of 200)"
    rows = [[step, *(f"{size:,} image tokens" for size in SIZES)], ["---"] * 4]
    rows.append(["**CPU, measured**: TRL", *["1"] * 3])
    spread = [f"{a} to {b} times as fast" for a, b in zip(lowest, highest, strict=True)]
    rows.append(["prompt shared", *spread])
    rows.append(
        ["4 prompts of an image"]
        + [
            f"{_down(low * together[size])} times as fast" if size in together else "not measured"
            for low, size in zip(lowest, SIZES, strict=True)
        ]
    )
    for row in read_table(sections["full_size"], "tuned"):
        work = [float(row[f"TFLOP at {size}"]) for size in SIZES]
        if row["way"] == "TRL":
            trl = work
            name = f"**Qwen2.5-VL-3B, counted**, {row['tuned']}: TRL"
            rows.append([name, *(f"{value:.0f} TFLOP" for value in work)])
            continue
        gains = zip(work, trl, strict=True)
        rows.append([row["way"], *(f"{a:.0f} TFLOP, {b / a:.1f} times less" for a, b in gains)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _range(seen: list[list[float]]) -> tuple[list[float], list[float]]:
    """Lowest and highest factor by size, rounded down to a tenth."""
    columns = list(zip(*seen, strict=True))
    return [_down(min(column)) for column in columns], [_down(max(column)) for column in columns]


def _down(value: float) -> float:
    return math.floor(10 * value) / 10


def write_page(sections: dict[str, str]) -> None:
    """The page of all sections, in the order of BENCHMARKS."""
    body = "\n".join(sections[name].strip() + "\n" for name in BENCHMARKS if name in sections)
    seconds = sum(map(int, re.findall(r"; took (\d+) s\.\*$", body, re.MULTILINE)))
    total = f"The sections below took {seconds / 60:.0f} minutes in all.\n"
    head = INTRODUCTION.format(lead=render_lead(sections))
    PAGE.write_text(f"{head}\n{total}\n{body}", "utf-8")


def render_gain(sections: dict[str, str]) -> str:
    """The sentence of README.md: the lowest gain of sharing the prompt that was seen, and others.

    Args:
        sections: of the page; of `full_size` the work of a 3B model by both ways is read.
    """
    lowest, highest = _range(read_seen())
    trl, ours = (
        next(row for row in read_table(sections["full_size"], "tuned") if row["way"] == way)
        for way in ("TRL", "prompt shared")
    )
    work = [float(trl[f"TFLOP at {n}"]) / float(ours[f"TFLOP at {n}"]) for n in SIZES]
    return (
        f"{_listed(lowest)} times as fast (elsewhere up to {_listed(highest)}) at "
        f"{_listed([f'{size:,}' for size in SIZES])} image tokens, and of Qwen2.5-VL-3B at full "
        f"size they are {_listed([_down(value) for value in work])} times less work, counted"
    )


def _listed(values: Sequence[object]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}"


def write_readme(sections: dict[str, str]) -> None:
    """Put the gain between its marks."""
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}{render_gain(sections)}{END}{after}", "utf-8")


def main() -> None:
    """Run the named benchmarks, keep the sections of the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    args = parser.parse_args()
    sections = read_sections()
    for name in args.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr)
        sections[name] = run_benchmark(name, args.peers)
        if name == "grpo_step":
            note_gain(sections[name])
        write_page(sections)  # after each: what was measured stays, whatever ends the rest
        write_readme(sections)


if __name__ == "__main__":
    main()
