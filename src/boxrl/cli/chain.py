"""Verbs that train: quickstart, train."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import Any

from boxrl.errors import MissingExtra


def add_verbs(verbs: Any) -> None:
    """Declare the verbs of this module."""
    quickstart = verbs.add_parser(
        "quickstart", help="the whole chain on the tiny VLM inside the package"
    )
    quickstart.add_argument(
        "--out", type=Path, metavar="DIR", help="default: runs/quickstart, or -2, -3, ... behind it"
    )
    quickstart.add_argument("--seed", type=int, default=0, metavar="N")
    quickstart.add_argument("--resume", action="store_true", help="continue an interrupted run")
    quickstart.set_defaults(run=run_quickstart)

    train = verbs.add_parser("train", help="SFT or GRPO, as the recipe says")
    train.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    train.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example train.max_steps=3"
    )
    train.add_argument("--resume", action="store_true", help="continue an interrupted run")
    train.set_defaults(run=run_train)


def require_train_extra(feature: str) -> None:
    """Stop with the install line where torch and its friends are missing."""
    # Libraries then fail at once instead of waiting for a network that nobody asked for.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for package in ("torch", "transformers", "trl", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(feature, "train")


def run_quickstart(args: argparse.Namespace) -> int:
    """Evaluate, train, evaluate again, show the difference."""
    require_train_extra("boxrl quickstart")
    from boxrl.cli.quickstart import quickstart
    from boxrl.runs import numbered_folder

    out = args.out or numbered_folder(Path("runs/quickstart"), args.resume)
    return quickstart(out, args.seed, args.resume)


def run_train(args: argparse.Namespace) -> None:
    """Train a recipe."""
    from boxrl.config import default_out, dump_recipe, load_recipe
    from boxrl.runs import Run, numbered_folder

    recipe = load_recipe(args.recipe, args.overrides)
    if recipe.out == default_out(recipe.name, recipe.method):
        recipe = recipe.model_copy(update={"out": numbered_folder(recipe.out, args.resume)})
    require_train_extra("boxrl train")
    from boxrl.engines.train import train

    facts = {"name": recipe.name, "method": recipe.method, "model": recipe.model}
    with Run(recipe.out, dump_recipe(recipe), facts, args.resume) as run:
        model = train(recipe, run, f"{recipe.method} {recipe.name}")
    print(f"model: {model}")
    print(f"report: boxrl report {recipe.out}")
