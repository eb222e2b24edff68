"""`experiment list`, `run` and `recipes`: a finding of the VLM-R1-OVD blog as one table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from boxrl.cli.options import add_json, add_overrides, print_json
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError, require_train_extra
from boxrl.guard.outputs import check_outputs

GRID_KEYS = "a key of base, tests or arms"


def add_verb(verbs: Any) -> None:
    """Declare `boxrl experiment list|run|recipes`."""
    verb = add_command(
        verbs, "experiment", "rerun published findings as grids of recipes",
        example="boxrl experiment list",
    )  # fmt: skip
    actions = verb.add_subparsers(title="actions", metavar="ACTION")
    listing = add_command(
        actions, "list", "show the experiments and what they ask", example="boxrl experiment list"
    )
    add_json(listing)
    listing.set_defaults(run=list_experiments)
    run = add_command(
        actions, "run", "run what is missing of a grid, and judge its claims",
        example="boxrl experiment run rewards --budget 20m",
    )  # fmt: skip
    run.add_argument("name", metavar="NAME", help="one of boxrl experiment list, or a YAML file")
    add_overrides(run, GRID_KEYS)
    run.add_argument(
        "--seeds", metavar="N,N,...", help="random seeds of the runs (default: the experiment's)"
    )
    run.add_argument(
        "--budget", metavar="TIME", help="time limit such as 20m; takes fewer steps and seeds"
    )
    run.add_argument(
        "--out", type=Path, metavar="DIR",
        help="folder of the results (default: runs/experiments/NAME)",
    )  # fmt: skip
    run.add_argument(
        "--cache", type=Path, default=Path("runs/experiments"), metavar="DIR",
        help="folder of finished runs, shared by all experiments",
    )  # fmt: skip
    run.add_argument(
        "--workers", type=int, metavar="N",
        help="runs side by side (default: one per CPU core, or one on a GPU)",
    )  # fmt: skip
    run.add_argument(
        "--dry-run", action="store_true", help="say what would run and how long; run nothing"
    )
    add_json(run)
    run.set_defaults(run=run_run)
    recipes = add_command(
        actions, "recipes", "write every arm as a recipe, to be trained on several GPUs",
        example="boxrl experiment recipes rewards_3b --out recipes_3b",
    )  # fmt: skip
    recipes.add_argument("name", metavar="NAME", help="an experiment, or a YAML file")
    add_overrides(recipes, GRID_KEYS)
    recipes.add_argument("--seeds", metavar="N,N,...", help="random seeds (default: its own)")
    recipes.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    recipes.set_defaults(run=write_arms)


def write_arms(args: argparse.Namespace) -> None:
    """Write the arms' recipes and name them."""
    from boxrl.experiments.arm_recipes import write_recipes

    _, experiment, seeds = _asked(args)
    for written in write_recipes(experiment, seeds, args.out):
        print(written)


def list_experiments(args: argparse.Namespace) -> None:
    """Show the experiments that ship with boxrl."""
    from boxrl.experiments.definition import experiments_folder, load_experiment

    paths = sorted(experiments_folder().glob("*.yaml"))
    found = [load_experiment(path, check_files=False) for path in paths]
    found.sort(key=lambda item: [int(part) for part in item.finding.split(",")[0].split(".")])
    if args.json:
        fields = {"finding", "title", "question", "seeds"}
        content = {
            item.name: item.model_dump(mode="json", include=fields) | {"arms": list(item.arms)}
            for item in found
        }
        print_json(content)
        return
    for item in found:
        print(f"{item.name} ({item.finding}): {item.question}\n    arms: {', '.join(item.arms)}")


def run_run(args: argparse.Namespace) -> int:
    """Run the grid and show its table."""
    from boxrl.experiments.budget import parse_duration
    from boxrl.experiments.definition import load_experiment
    from boxrl.experiments.run import run_experiment
    from boxrl.experiments.teaching import teach_missing

    path, experiment, seeds = _asked(args)
    budget = parse_duration(args.budget) if args.budget else None
    if args.workers is not None and args.workers < 1:
        raise UsageError(f"--workers {args.workers}: expected 1 or more")
    if args.dry_run:
        return print_expected(experiment, seeds, args)
    require_train_extra("boxrl experiment run")
    out = args.out or Path("runs/experiments") / experiment.name
    check_outputs([(out / "results.json", "experiment"), (out / "finding.md", "finding")], [path])
    try:
        teach_missing(experiment.teaches)
        experiment = load_experiment(path, args.overrides)
        outcome = run_experiment(
            experiment,
            seeds,
            out,
            args.cache,
            workers=args.workers,
            budget=budget,
            overrides=args.overrides,
        )
    except KeyboardInterrupt:
        print("boxrl: interrupted; rerun the same command to continue", file=sys.stderr)
        return 130
    _write_finding(out, outcome)
    if args.json:
        print_json(outcome)
        return 0
    print_outcome(outcome)
    print(f"results: {out / 'results.json'}   section: {out / 'finding.md'}")
    return 0


def _write_finding(out: Path, outcome: Any) -> None:
    """The section of the findings page, and the learning curves that it shows."""
    from boxrl.data.files import write_atomic
    from boxrl.experiments.learning import draw_learning
    from boxrl.experiments.markdown import render_markdown

    pictures = draw_learning(outcome["curves"])
    for title, picture in pictures.items():
        with write_atomic(out / f"{title}.svg") as handle:
            handle.write(picture)
    with write_atomic(out / "finding.md") as handle:
        handle.write(render_markdown(outcome, {title: f"{title}.svg" for title in pictures}))


def print_expected(experiment: Any, seeds: list[int], args: argparse.Namespace) -> int:
    """Say what a run would do."""
    from boxrl.experiments.run import expect

    found = expect(experiment, seeds, args.cache)
    if args.json:
        print_json(found)
        return 0
    print(
        f"{experiment.name}: {found['cells']} cells, {found['finished']} of them finished; about "
        f"{found['processor_minutes']:.0f} processor minutes"
    )
    for folder in found["teach"]:
        print(f"to be taught before: {folder} ({experiment.teaches[folder]})")
    return 0


def _asked(args: argparse.Namespace) -> tuple[Path, Any, list[int]]:
    """The file of the experiment, what it says, and which seeds it is to run under."""
    from boxrl.experiments.definition import find_experiment, load_experiment

    path = find_experiment(args.name)
    experiment = load_experiment(path, args.overrides, check_files=False)
    return path, experiment, _parse_seeds(args.seeds) if args.seeds else experiment.seeds


def _parse_seeds(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UsageError(f"--seeds {text}: expected different integers such as 0,1,2")
    return [int(part) for part in parts]


def print_outcome(outcome: Any) -> None:
    """The table, what was given up, and the verdict of each claim."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from boxrl.experiments.markdown import claim_words, figure_rows, verdict_words

    console = Console(highlight=False)
    table = Table(title=f"{outcome['finding']} {outcome['title']}", title_justify="left")
    for head in ("figure", "arm", "blog's", "ours [95 %]"):
        table.add_column(head, justify="left" if head in ("figure", "arm") else "right")
    for rows in figure_rows(outcome):
        for row in rows:
            table.add_row(*(Text(cell) for cell in row), end_section=row is rows[-1])
    console.print(table)
    seeds = ", ".join(str(seed) for seed in outcome["seeds"])
    console.print(
        f"ours: mean [95 % interval over seeds {seeds}]; {outcome['cells_run']} cells run"
    )
    if outcome["gave_up"]:
        console.print(f"within the budget: {', '.join(outcome['gave_up'])}")
    styles = {"held": "green", "failed": "bold red", "smaller": "red"}
    for claim in outcome["claims"]:
        console.print(Text(claim["says"]))
        words = f"  {verdict_words(claim)}: {claim_words(claim)}"
        console.print(Text(words, style=styles.get(claim["status"], "yellow")))
