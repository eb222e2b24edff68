"""`boxrl verify`: a second look at every predicted box, yes or no."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from boxrl.cli.options import (
    add_device,
    add_images,
    add_limits,
    add_predictions,
    add_samples,
    add_thinking,
    integer,
)
from boxrl.cli.parser import add_command
from boxrl.cli.predict import add_endpoint, engine_options
from boxrl.engines.build import ENGINES
from boxrl.errors import UsageError, tally
from boxrl.guard.outputs import check_outputs


def add_verb(verbs: Any) -> None:
    """Declare `boxrl verify`."""
    verb = add_command(
        verbs, "verify", "ask yes or no about every predicted box; resumable",
        example="boxrl verify --samples val.jsonl --images images/ --predictions predictions.jsonl "
        "--model models/Qwen3-VL-8B-Instruct --out verified.jsonl",
    )  # fmt: skip
    add_samples(verb)
    add_images(verb)
    add_predictions(verb)
    verb.add_argument("--model", required=True, help="who is asked; as for boxrl predict")
    verb.add_argument(
        "--out", type=Path, required=True, metavar="FILE.jsonl",
        help="the predictions with box_verify, for evaluate --confidence verify; rerun to continue",
    )  # fmt: skip
    verb.add_argument("--family", metavar="NAME", help="family of the model that is asked")
    verb.add_argument(
        "--engine", choices=tuple(ENGINES), default="transformers", help="what runs the model"
    )
    verb.add_argument(
        "--batch-size", type=integer(1), metavar="N", help="questions at once (local engines)"
    )
    add_limits(verb)
    add_thinking(verb)
    local = verb.add_argument_group("transformers and vllm")
    add_device(local)
    local.add_argument(
        "--engine-arg", action="append", default=[], metavar="key=value",
        help="passed to vLLM's LLM(), for example tensor_parallel_size=2; repeatable",
    )  # fmt: skip
    add_endpoint(verb.add_argument_group("openai: any OpenAI-compatible server"))
    verb.set_defaults(run=run_verify)


def run_verify(args: argparse.Namespace) -> int:
    """Verify a predictions file; exit status 1 where some questions ended in error."""
    from boxrl.data.files import hash_file
    from boxrl.data.predictions import read_predictions
    from boxrl.data.samples import read_samples
    from boxrl.engines.answers import model_facts
    from boxrl.engines.build import build_engine
    from boxrl.evaluate.files import read_settings, settings_family
    from boxrl.generation.verify import verify_predictions
    from boxrl.guard.texts import visible

    check_outputs([(args.out, "predictions")], [args.samples, args.predictions])
    if not args.images.is_dir():
        raise UsageError(f"--images: no folder {args.images}")
    samples, predictions = read_samples(args.samples), read_predictions(args.predictions)
    settings = read_settings(args.predictions)
    family = settings_family(settings, None, str(args.predictions))
    options = engine_options(args, args, args.engine)
    engine = build_engine(options, "none", args.images)
    facts = model_facts(options) | {
        "predictions": hash_file(args.predictions),
        "images": str(args.images),
    }
    size = args.batch_size or ENGINES[args.engine].batch_size
    done = verify_predictions(
        engine, samples, predictions, family, settings, args.out, facts, size
    )  # fmt: skip
    if done.failed:
        first = done.failed[0]
        failure = (
            f"{tally(len(done.failed), 'question')} ended in error, for example {first.id!r}: "
            f"{first.error}; rerun the same command to retry them"
        )
        print(visible(failure), file=sys.stderr)
        return 1
    if done.undecided:
        print(
            f"{done.undecided:,} of {tally(done.boxes, 'box', 'boxes')}: neither yes nor no is "
            "among the likely answers; they get 0.5",
            file=sys.stderr,
        )
    print(f"verified: {args.out}, {tally(done.boxes, 'box', 'boxes')}")
    return 0
