"""`boxrl init`: a commented recipe that fits the data, the model and the memory."""

from __future__ import annotations

import argparse
from typing import Any

from boxrl.cli.options import Input, add_images, add_limits, add_samples, add_summary
from boxrl.cli.parser import add_command
from boxrl.errors import require_train_extra


def add_verb(verbs: Any) -> None:
    """Declare `boxrl init`."""
    verb = add_command(
        verbs, "init", "print a recipe that fits your data, model and GPUs",
        example="boxrl init --samples train.jsonl --images images/ "
        "--model models/Qwen2.5-VL-3B-Instruct --gpu-memory 24 > recipe.yaml",
    )  # fmt: skip
    add_samples(verb)
    add_images(verb)
    verb.add_argument(
        "--validation", type=Input, metavar="FILE.jsonl",
        help="held-out samples: keep the best checkpoint by them, compare before and after",
    )  # fmt: skip
    add_summary(verb, "instead of reading --samples, which need not be here yet")
    verb.add_argument("--model", required=True, help="model folder, id of the hub, or tiny")
    verb.add_argument("--gpus", type=int, default=1, metavar="N", help="number of GPUs")
    verb.add_argument(
        "--gpu-memory", type=float, default=24.0, metavar="GB",
        help="memory of one GPU",
    )  # fmt: skip
    add_limits(verb)
    verb.add_argument(
        "--method", choices=("grpo", "sft"), default="grpo", help="how the recipe trains"
    )
    verb.set_defaults(run=run_init)


def run_init(args: argparse.Namespace) -> None:
    """Print the recipe."""
    require_train_extra("boxrl init")
    from boxrl.engines.training.init_recipe import write_recipe

    print(
        write_recipe(
            args.samples,
            args.images,
            args.model,
            args.method,
            args.gpus,
            args.gpu_memory,
            args.min_pixels,
            args.max_pixels,
            args.validation,
            args.summary,
        ),
        end="",
    )
