"""`boxrl init`: a commented recipe that fits the data, the model and the memory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boxrl.errors import require_train_extra


def add_verb(verbs: Any) -> None:
    """Declare `boxrl init`."""
    init = verbs.add_parser("init", help="a recipe for your samples, model and GPUs")
    init.add_argument("--samples", type=Path, required=True, metavar="FILE.jsonl")
    init.add_argument("--images", type=Path, required=True, metavar="DIR")
    init.add_argument("--model", required=True, help="model folder, or tiny")
    init.add_argument("--gpus", type=int, default=1, metavar="N")
    init.add_argument("--gpu-memory", type=float, default=24.0, metavar="GB", help="of one")
    init.add_argument("--method", choices=("grpo", "sft"), default="grpo")
    init.set_defaults(run=run_init)


def run_init(args: argparse.Namespace) -> None:
    """Print the recipe."""
    require_train_extra("boxrl init")
    from boxrl.engines.training.init_recipe import write_recipe

    print(
        write_recipe(
            args.samples, args.images, args.model, args.method, args.gpus, args.gpu_memory
        ),
        end="",
    )
