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
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "performance.md", ROOT / "README.md"
KEPT = ROOT / "runs" / "full_size.jsonl"
"""What a run of `full_size` counted before it was cut."""
BEGIN, END = "<!-- shared prefix: begin -->", "<!-- shared prefix: end -->"
SIZES = (256, 576, 1024)
"""Image tokens of which README.md names the gain."""
BENCHMARKS = (
    "rewards", "parse", "evaluate", "coco_eval", "data", "convert", "generate", "grpo_step",
    "sft_step", "full_size", "growth", "report", "cli", "quickstart",
)  # fmt: skip
BESIDE_PEERS = {"parse", "coco_eval", "convert"}
"""Those that run in the peers' Python; `data` starts its peers there by itself."""
INTRODUCTION = """# Performance

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


def write_page(sections: dict[str, str]) -> None:
    """The page of all sections, in the order of BENCHMARKS."""
    body = "\n".join(sections[name].strip() + "\n" for name in BENCHMARKS if name in sections)
    seconds = sum(map(int, re.findall(r"; took (\d+) s\.\*$", body, re.MULTILINE)))
    total = f"The sections below took {seconds / 60:.0f} minutes in all.\n"
    PAGE.write_text(f"{INTRODUCTION}\n{total}\n{body}", "utf-8")


def render_gain(section: str) -> str:
    """The sentence of README.md: what sharing the prompt gains, rounded down to a tenth.

    Args:
        section: of `grpo_step`; its rows of 8 completions of 100 tokens for one prompt are read.
    """
    gains = []
    for size in SIZES:
        row = re.search(rf"^\| {size} \| 100 \| 1 \|[^|]*\|[^|]*\| ([\d.]+)", section, re.MULTILINE)
        if row is None:
            raise SystemExit(f"{PAGE.name}: no row of {size} image tokens under grpo_step")
        gains.append(f"{math.floor(10 * float(row[1])) / 10}")
    *first, last = gains
    return f"{', '.join(first)} and {last}"


def write_readme(section: str) -> None:
    """Put the gain between its marks."""
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}{render_gain(section)}{END}{after}", "utf-8")


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
        write_page(sections)  # after each: what was measured stays, whatever ends the rest
        if name == "grpo_step":
            write_readme(sections[name])


if __name__ == "__main__":
    main()
