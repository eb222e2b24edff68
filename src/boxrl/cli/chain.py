"""Verbs that run a model: quickstart, train, predict."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import Any

from boxrl.errors import MissingExtra, UsageError

CONTROLS = ("shuffled_labels", "absent_labels", "blank_image")


def add_verbs(verbs: Any) -> None:
    """Declare the verbs of this module."""
    quickstart = verbs.add_parser(
        "quickstart", help="the whole chain on the tiny VLM inside the package"
    )
    quickstart.add_argument("--out", type=Path, default=Path("runs/quickstart"), metavar="DIR")
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

    predict = verbs.add_parser("predict", help="let a model answer every sample; resumable")
    predict.add_argument("--samples", type=Path, required=True, metavar="FILE.jsonl")
    predict.add_argument("--images", type=Path, required=True, metavar="DIR")
    predict.add_argument("--model", required=True, help="model folder, or tiny")
    predict.add_argument("--out", type=Path, required=True, metavar="predictions.jsonl")
    predict.add_argument("--engine", choices=("transformers",), default="transformers")
    predict.add_argument("--family", help="found from the model's config where it is not named")
    predict.add_argument("--prompt", default="standard")
    predict.add_argument("--control", choices=CONTROLS, help="take question or image away")
    predict.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    predict.add_argument("--top-p", type=float, default=1.0)
    predict.add_argument("--max-new-tokens", type=int, default=1024, metavar="N")
    predict.add_argument("--batch-size", type=int, default=32, metavar="N")
    predict.add_argument("--limit", type=int, metavar="N", help="only the first N samples")
    predict.add_argument("--seed", type=int, default=0, metavar="N")
    predict.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    predict.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    predict.set_defaults(run=run_predict)


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

    return quickstart(args.out, args.seed, args.resume)


def run_train(args: argparse.Namespace) -> None:
    """Train a recipe."""
    from boxrl.config import dump_recipe, load_recipe
    from boxrl.runs import Run

    recipe = load_recipe(args.recipe, args.overrides)
    require_train_extra("boxrl train")
    from boxrl.engines.train import train

    facts = {"name": recipe.name, "method": recipe.method, "model": recipe.model}
    with Run(recipe.out, dump_recipe(recipe), facts, args.resume) as run:
        model = train(recipe, run, f"{recipe.method} {recipe.name}")
    print(f"model: {model}")
    print(f"report: boxrl report {recipe.out}")


def run_predict(args: argparse.Namespace) -> None:
    """Answer every sample of a file."""
    from boxrl.data.controls import take_away
    from boxrl.data.samples import read_samples
    from boxrl.prompts import build_prompt

    prompt = build_prompt(args.prompt)
    samples = read_samples(args.samples)[: args.limit]
    if args.control:
        samples = take_away(samples, args.control, args.seed)
    if not args.images.is_dir():
        raise UsageError(f"--images: no folder {args.images}")
    require_train_extra("boxrl predict")
    from boxrl.engines.generate import Generator, Sampling, predict
    from boxrl.engines.models import load, model_folder, quiet
    from boxrl.families import read_family

    quiet()
    family = read_family(model_folder(args.model), args.family)
    model, processor = load(args.model, args.dtype, args.device)
    sampling = Sampling(
        temperature=args.temperature,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
        batch_size=args.batch_size,
    )
    facts = {
        "model": args.model,
        "engine": args.engine,
        "samples": str(args.samples),
        "images": str(args.images),
        "control": args.control,
    }
    generator = Generator(model, processor, family, prompt, args.images, args.control)
    predict(generator, samples, args.out, sampling, facts)
    print(f"family: {family.name}")
    print(f"predictions: {args.out}")
