"""`boxrl quickstart`: the whole chain on the tiny VLM."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boxrl.cli.options import add_overrides, add_run_folder, add_seed
from boxrl.cli.parser import add_command
from boxrl.errors import require_train_extra


def add_verb(verbs: Any) -> None:
    """Declare `boxrl quickstart`."""
    verb = add_command(
        verbs, "quickstart", "the whole chain on the tiny VLM inside the package",
        example="boxrl quickstart --out runs/quickstart",
    )  # fmt: skip
    verb.add_argument(
        "--out", type=Path, metavar="DIR",
        help="run folder (default: runs/quickstart, or the first free of quickstart-2, -3, ...)",
    )  # fmt: skip
    add_seed(verb, "of scenes, training and sampling")
    add_run_folder(verb)
    add_overrides(verb)
    verb.set_defaults(run=run_quickstart)


def run_quickstart(args: argparse.Namespace) -> None:
    """Run the packaged recipe into a run folder, or go on there."""
    from rich.console import Console

    from boxrl.cli.tables import plain, print_change, print_next, shell
    from boxrl.config import find_recipe, load_recipe
    from boxrl.runs import clear_run, numbered_folder

    require_train_extra("boxrl quickstart")
    from boxrl.config import asking_options
    from boxrl.quickstart import run_chain

    first = Path("runs/quickstart")
    out = args.out or (first if args.replace else numbered_folder(first, args.resume))
    words = [f"out={out}", f"seed={args.seed}", *args.overrides]
    recipe = load_recipe(find_recipe("quickstart"), words)
    if args.replace:
        clear_run(recipe.out)
    chain, console = run_chain(recipe, args.resume), Console()
    for way, difference in chain.differences.items():
        before = chain.evaluations[f"before_{way}"]
        title = f"{len(before.rows)} held-out scenes, {way}, prompt {recipe.prompt!r}"
        print_change(console, title, difference, before.metrics["blind"])
    console.print(plain(f"report: {chain.report}   ({chain.seconds:.0f} s)"), soft_wrap=True)
    print_next(
        console,
        f"open {chain.report} in a browser: every answer, before and after",
        f"boxrl demo --model {shell(recipe.out / 'model')}{asking_options(recipe.model_dump())}",
        "boxrl init --help: a recipe for your own data",
    )
