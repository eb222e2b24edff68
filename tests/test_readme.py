"""What README says of the program, held against the program."""

from __future__ import annotations

import re
from pathlib import Path
from runpy import run_path

from boxrl.data.formats import READERS
from boxrl.families import FAMILIES
from boxrl.rewards.probes import PROBES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def row(head: str) -> str:
    """A line of the table of what boxrl works with."""
    (found,) = re.findall(rf"^\| {head} \| (.*) \|$", README, re.MULTILINE)
    return found


def names(head: str) -> list[str]:
    return re.findall(r"`([^`]+)`", row(head))


def test_the_rows_of_figures_are_those_of_the_quickstart_page() -> None:
    module = run_path(str(ROOT / "perf" / "quickstart_table.py"))
    table = module["read_between"](module["PAGE"], module["POOLED"])
    rows = module["read_between"](module["README"], module["ROWS"])
    assert rows == module["render_rows"](table)
    assert rows.count("\n") == 1 + len(module["SHOWN"])


def test_a_figure_is_bold_just_where_its_interval_leaves_0_out() -> None:
    module = run_path(str(ROOT / "perf" / "quickstart_table.py"))
    for line in module["read_between"](module["PAGE"], module["POOLED"]).splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        low, high = map(float, re.findall(r"[-+]\d+\.\d+", cells[3])[1:])
        assert cells[2].startswith("**") == (low > 0 or high < 0), line


def test_every_family_is_named_with_its_frame() -> None:
    table = README.partition("### Families")[2].partition('\n\n"')[0]
    frames = {
        name: line.split("|")[4].strip()
        for line in table.splitlines()
        for name in re.findall(r"`([^`]+)`", line.split("|")[1] if "|" in line else "")
    }
    assert sorted(frames) == sorted(FAMILIES)
    for name, family in FAMILIES.items():
        words = {
            "original": "original pixels",
            "resized": "pixels of the resized image",
            "grid": f"grid of {family.grid}",
            "bins": f"{family.grid} bins",
            "shares": "shares, 0 to 1",
        }
        assert frames[name] == words[family.frame]


def test_every_format_is_named() -> None:
    assert sorted(names("data")) == sorted(READERS)


def test_the_known_exploits_are_counted() -> None:
    count = sum(probe.worse for probe in PROBES.values())
    for page in ("README.md", "docs/tutorial.md", "docs/rewards.md", "docs/concepts.md"):
        text = (ROOT / page).read_text("utf-8")
        said = re.findall(r"\b(\d+) (?:known |such )?exploits|plays (\d+) \|", text)
        assert {int(a or b) for a, b in said} == {count}, page


def test_the_tree_names_every_package() -> None:
    tree = README.partition("## The tree")[2].partition("## ")[0]
    packages = [path.name for path in (ROOT / "src/boxrl").iterdir() if path.is_dir()]
    for package in packages:
        assert package.startswith("_") or f" {package}/" in tree, package
