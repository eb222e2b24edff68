"""Verbs that train: quickstart, train."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from boxrl.errors import MissingExtra, UsageError


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
    quickstart.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example train.max_steps=3"
    )
    quickstart.set_defaults(run=run_quickstart)

    train = verbs.add_parser("train", help="SFT or GRPO, as the recipe says")
    train.add_argument("recipe", metavar="RECIPE", help="a .yaml file, or a shipped one by name")
    train.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example train.max_steps=3"
    )
    train.add_argument("--resume", action="store_true", help="continue an interrupted run")
    train.add_argument("--dry-run", action="store_true", help="memory it needs; nothing is run")
    train.add_argument(
        "--gpu-memory", type=float, metavar="GB", help="of one device, for --dry-run"
    )
    train.add_argument("--launch", choices=("accelerate",), help="on several processes")
    train.add_argument(
        "--num-processes", type=int, default=1, metavar="N", help="of --launch or --dry-run"
    )
    train.add_argument("--strategy", choices=("ddp", "zero2", "zero3", "fsdp2"), default="ddp")
    train.add_argument(
        "--write-config", type=Path, metavar="FILE", help="write accelerate's config and stop"
    )
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
    return quickstart(out, args.seed, args.resume, args.overrides)


def run_train(args: argparse.Namespace) -> int | None:
    """Train a recipe, or say what training it takes."""
    from boxrl.config import dump_recipe, find_recipe, load_recipe
    from boxrl.runs import Run, numbered_folder

    if args.gpu_memory is not None and not (args.dry_run and 0 < args.gpu_memory < math.inf):
        raise UsageError(
            f"--gpu-memory goes with --dry-run and is a positive number of GB, got "
            f"{args.gpu_memory:g}{'' if args.dry_run else ' without --dry-run'}"
        )
    _refuse_idle_options(args)
    recipe = load_recipe(find_recipe(args.recipe), args.overrides)
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    if "out" not in recipe.model_fields_set and workers == 1:
        recipe = recipe.model_copy(update={"out": numbered_folder(recipe.out, args.resume)})
    require_train_extra("boxrl train")
    if args.dry_run:
        from boxrl.cli.training import print_estimate

        return print_estimate(recipe, args.gpu_memory, args.num_processes, args.strategy)
    if args.launch:
        from boxrl.cli.training import launch

        launch(args, recipe)
        return None
    from boxrl.engines.training.train import train

    facts = {"name": recipe.name, "method": recipe.method, "model": recipe.model}
    # Of several processes the first one keeps the run folder.
    first = os.environ.get("RANK", "0") == "0"
    with Run(recipe.out, dump_recipe(recipe), facts, args.resume) if first else nullcontext():
        model = train(recipe, f"{recipe.method} {recipe.name}", score_answers)
    if first:
        print(f"model: {model}")
        print(f"report: boxrl report {recipe.out}")
    return None


def _refuse_idle_options(args: argparse.Namespace) -> None:
    """Stop where an option would do nothing.

    Raises:
        UsageError: it names what the option goes with.
    """
    idle = {
        "--num-processes": args.num_processes != 1 and not (args.launch or args.dry_run),
        "--strategy": args.strategy != "ddp" and not (args.launch or args.dry_run),
        "--write-config": args.write_config is not None and not args.launch,
    }
    for option, alone in idle.items():
        if alone:
            raise UsageError(f"{option}: does nothing alone; add --launch accelerate")


def score_answers(samples: Any, answers: Any, family: Any, prompt: str) -> dict[str, Any]:
    """What `boxrl evaluate` says about the answers, without its intervals; arguments as its own."""
    from boxrl.evaluate import evaluate

    metrics: dict[str, Any] = evaluate(
        samples, answers, family, prompt=prompt, answer_tag="required", resamples=2
    ).metrics
    return metrics
