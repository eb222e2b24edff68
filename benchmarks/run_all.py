"""Run every benchmark and rewrite docs/performance.md; no figure there is typed by hand.

python benchmarks/run_all.py [NAME ...]      all, or only those named; other sections stay
"""

from __future__ import annotations

import ast
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
BENCHMARKS = ("rewards", "evaluate", "data", "grpo_step", "report")
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


def run_benchmark(name: str) -> str:
    """The section of one benchmark: what it measures, then what it printed."""
    script = ROOT / "benchmarks" / f"{name}.py"
    words = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    result = subprocess.run(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False
    )
    if not result.stdout.strip():
        raise SystemExit(f"{script.name}: printed nothing (exit status {result.returncode})")
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout.strip()
    printed = result.stdout.strip()
    fenced = f"```text\n{printed}\n```"
    title = words.split("\n")[0]
    about = words.partition("\n\n")[2].partition("\n\n")[2]
    return (
        f"## {name}: {title}\n\n{about}\n\n"
        f"{printed if '|---' in printed else fenced}\n\n"
        f"*{describe_machine()}; commit {commit}.*\n"
    )


def read_sections() -> dict[str, str]:
    """Sections of the page as it stands, by benchmark."""
    if not PAGE.is_file():
        return {}
    parts = re.split(r"^(?=## )", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {part[3:].partition(":")[0]: part for part in parts}


def main() -> None:
    """Run the named benchmarks, keep the sections of the others."""
    chosen = sys.argv[1:] or list(BENCHMARKS)
    sections = read_sections()
    for name in chosen:
        print(f"{name} ...", file=sys.stderr)
        sections[name] = run_benchmark(name)
    body = "\n".join(sections[name].strip() + "\n" for name in BENCHMARKS if name in sections)
    PAGE.write_text(f"{INTRODUCTION}\n{body}", "utf-8")


if __name__ == "__main__":
    main()
