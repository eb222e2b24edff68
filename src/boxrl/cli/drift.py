"""`boxrl doctor drift`: how far training moved a model where it was not to move."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from boxrl.cli.options import (
    MODEL_FAMILY,
    RESAMPLES,
    add_device,
    add_images,
    add_json,
    add_limits,
    add_samples,
    add_seed,
    add_thinking,
    integer,
    print_json,
)
from boxrl.cli.parser import add_command
from boxrl.errors import UsageError, require_train_extra


def add_drift(checks: Any) -> None:
    """Declare `boxrl doctor drift`."""
    verb = add_command(
        checks, "drift", "measure how far a trained model moved from its base on other prompts",
        example="boxrl doctor drift --base models/Qwen2.5-VL-3B-Instruct --model my_detector "
        "--samples guard.jsonl --images images/",
    )  # fmt: skip
    verb.add_argument("--base", required=True, help="what the model was trained from")
    verb.add_argument("--model", required=True, help="model folder, id of the hub, or tiny")
    add_samples(verb)
    add_images(verb)
    verb.add_argument("--family", metavar="NAME", help=MODEL_FAMILY)
    verb.add_argument(
        "--prompt", default="qwen-native", metavar="NAME|FILE.yaml",
        help="prompt template; the default adds no words to a question",
    )  # fmt: skip
    verb.add_argument(
        "--limit", type=integer(1), default=200, metavar="N", help="only the first N samples"
    )
    verb.add_argument(
        "--max-new-tokens", type=integer(1), default=128, metavar="N",
        help="longest answer of the base model, in tokens",
    )  # fmt: skip
    verb.add_argument("--resamples", type=integer(1), default=1000, metavar="N", help=RESAMPLES)
    add_seed(verb, "of the base model's answers and of the bootstrap")
    add_limits(verb)
    add_thinking(verb)
    add_device(verb)
    add_json(verb, argparse.SUPPRESS)
    verb.set_defaults(run=run_drift)


def run_drift(args: argparse.Namespace) -> None:
    """Load both models and compare them on the samples' prompts."""
    require_train_extra("boxrl doctor drift")
    from boxrl.data.samples import read_samples
    from boxrl.engines.build import EngineOptions, build_engine
    from boxrl.engines.drift import measure_drift
    from boxrl.engines.generate import Generator
    from boxrl.generation.predict import Sampling
    from boxrl.progress import progress_bar

    if not args.images.is_dir():
        raise UsageError(f"--images: no folder {args.images}")
    samples = read_samples(args.samples)[: args.limit]
    if not samples:
        raise UsageError(f"{args.samples}: no samples")
    options = EngineOptions(
        args.base,
        family=args.family,
        min_pixels=args.min_pixels,
        max_pixels=args.max_pixels,
        thinking=None if args.thinking is None else args.thinking == "on",
        device=args.device,
        dtype=args.dtype,
    )
    base, model = (
        cast(Generator, build_engine(replace(options, model=name), args.prompt, args.images))
        for name in (args.base, args.model)
    )
    sampling = Sampling(temperature=1.0, max_new_tokens=args.max_new_tokens, seed=args.seed)
    with progress_bar("drift", len(samples)) as bar:
        found = measure_drift(base, model, samples, sampling, args.resamples, bar.advance)
    if args.json:
        print_json(found | {"base": args.base, "model": args.model, "prompt": args.prompt})
    else:
        print_drift(found)


def print_drift(found: Mapping[str, Any]) -> None:
    """Both figures with their intervals, and what they mean."""
    from boxrl.cli.tables import format_interval

    for key, name in (
        ("kl", "KL from the base, nats per token"),
        ("other_choice", "tokens of which another is likeliest"),
    ):
        print(f"{name:<38}{found[key]:.4f}   95 % {format_interval(found['intervals'][key])}")
    print(f"over {found['tokens']:,} tokens of the base's answers to {found['n']:,} prompts")
