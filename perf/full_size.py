"""What a micro-batch of full-size models takes on a GPU, by TRL's path and by boxrl's: counted

    python perf/full_size.py [--models NAME ...] [--rows FILE] [--json]

Counted without a GPU, not timed: one prompt and 8 completions, forwards and backwards, bfloat16,
activation checkpointing, full fine-tuning. GiB are the peak above weights and gradients, TFLOP
hold the recomputation, `x` is TRL's figure over boxrl's. Uneven: completions between a quarter and
all of the longest, .44 of it on average, as detection's are; TRL pads them to even ones. The
factor of TFLOP is the most that a step can gain beside generation. The first table has TFLOP of a
prompt and GiB of a micro-batch, of even lengths. Shapes run through the models'
own modules (`boxrl.engines.training.hollow`), within 5 % of the peak of a phantom GPU that runs the
whole trainer (`make test-phantom`). Where there is a C++ compiler, that phantom also counts how
often the host waits for the GPU, at 256 image tokens, for that depends on no length. Counts of one
commit are the same every time: with --rows a run goes on where one of the same commit was cut.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.phantom import guard

NO_PHANTOM = guard.load()
"""Why there is none; it comes before torch."""

import torch  # noqa: E402
from run_all import read_commit  # noqa: E402
from timing import print_tables  # noqa: E402

from boxrl.config import Recipe  # noqa: E402
from boxrl.engines.build import EngineOptions  # noqa: E402
from boxrl.engines.known_models import find_known_family  # noqa: E402
from boxrl.engines.training.load import Load  # noqa: E402
from boxrl.engines.training.memory import GIB, build_empty  # noqa: E402
from boxrl.engines.training.micro_batch import build_rows, count, measure, prepare  # noqa: E402

MODELS = ("Qwen2.5-VL-3B", "Qwen2.5-VL-7B", "Qwen3-VL-4B")
GRIDS = {256: (16, 16), 576: (24, 24), 1024: (32, 32), 2048: (32, 64)}
"""Image tokens -> rows and columns."""
COMPLETIONS = (200, 1024)
SHARES = (1, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.3)
"""Of the longest completion, where lengths are uneven."""
WAYS = (
    ("TRL", False, 1), ("prompt shared", True, 1), ("2 prompts of an image", True, 2),
    ("4 prompts of an image", True, 4),
)  # fmt: skip
"""A way: whether prompts are shared, and how many of one image stand together."""
TEXT = 60
"""Tokens of the question."""


LORA = {"freeze_vision": True, "lora": {"r": 64, "alpha": 128}, "learning_rate": 1e-5}


def recipe_of(model: str, **train: Any) -> Recipe:
    """Full fine-tuning as recipes/grpo_ovd_3b.yaml has it; `train` overrides its section."""
    return Recipe.model_validate(
        {
            "name": "full-size", "method": "grpo", "model": model, "rewards": ["f1"],
            "data": {"train": "none.jsonl", "images": "none"},
            "train": {
                "num_generations": 8, "micro_batch_prompts": 1, "learning_rate": 1e-6, **train,
            },
        }
    )  # fmt: skip


def take(
    model: str,
    tokens: int,
    completion: int,
    *,
    even: bool,
    shared: bool,
    prompts: int = 1,
    **train: Any,
) -> tuple[float, float, int]:
    """TFLOP of a micro-batch of prompts of one image, GiB above weights and gradients, kernels."""
    recipe = recipe_of(model, **train)
    family = find_known_family(EngineOptions(model))
    rows, columns = (2 * side for side in GRIDS[tokens])  # 2 x 2 patches are a token
    load = Load(TEXT, tokens, (rows, columns), completion, prompts, 8, shared)
    prepared = prepare(build_empty(recipe), recipe, family, shared=shared)
    counted = count(prepared)
    lengths = () if even else tuple(round(share * completion) for share in SHARES)
    batch = build_rows(prepared.config, load, lengths, prompts)
    work = measure(prepared, load, batch, half=True, again=True, keep_gradients=True)
    above = work.peak - counted.weights - counted.gradients
    return work.flops / 1e12, above / GIB, work.kernels


class Counted:
    """Rows that one commit has counted, in a file; a row is counted once."""

    def __init__(self, path: Path | None) -> None:
        """Take up the file's rows of this commit; without a file rows are kept for the run."""
        self.path, self.commit = path, read_commit()
        lines = path.read_text().splitlines() if path and path.is_file() else []
        rows = [json.loads(line) for line in lines]
        self.found = {row["key"]: row["value"] for row in rows if row["commit"] == self.commit}

    def take(self, count: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What `count` makes of its arguments."""
        key = f"{count.__name__} {args} {options}"
        if key not in self.found:
            value = self.found[key] = count(*args, **options)
            if self.path:
                line = json.dumps({"commit": self.commit, "key": key, "value": value})
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a") as handle:
                    handle.write(line + "\n")
        return self.found[key]


def compare(counted: Counted, model: str, tokens: int, completion: int) -> list[dict[str, Any]]:
    """Rows of the table: even and uneven lengths, which TRL pads to even ones."""
    trl = counted.take(take, model, tokens, completion, even=True, shared=False)
    rows = []
    for lengths in ("even", "uneven"):
        even = lengths == "even"
        ours = counted.take(take, model, tokens, completion, even=even, shared=True)
        row: dict[str, Any] = {
            "model": model, "image": tokens, "completion": completion, "lengths": lengths,
        }  # fmt: skip
        for what, one, other in zip(("TFLOP", "GiB", "kernels"), trl, ours, strict=True):
            digits = 2 if what == "GiB" else None
            row |= {f"{what} trl": round(one, digits), f"{what} boxrl": round(other, digits)}
            row[f"{what} x"] = round(one / other, 2)
        rows.append(row)
    return rows


def count_ways(counted: Counted) -> list[dict[str, Any]]:
    """What a prompt of the 3B model costs, way by way; completions of 200 tokens."""
    rows = []
    for tuned, train in (("everything", {}), ("LoRA, frozen vision tower", LORA)):
        for way, shared, prompts in WAYS:
            row: dict[str, Any] = {"tuned": tuned, "way": way}
            for tokens in (256, 576, 1024):
                several = {"prompts": prompts} if prompts > 1 else {}
                flops, above, _ = counted.take(
                    take, MODELS[0], tokens, 200, even=True, shared=shared, **several, **train
                )
                row[f"TFLOP at {tokens}"] = round(flops / prompts, 1)
            rows.append(row | {"GiB at 1024": round(above, 2)})
    return rows


def count_syncs(model: str) -> dict[str, Any]:
    """How often the host waits for the GPU in a micro-batch, by the phantom."""
    from tests.phantom import full_size

    row: dict[str, Any] = {"model": model}
    with TemporaryDirectory() as name:
        folder = Path(name)
        full_size.save_folder(model.lower(), folder / "model")
        full_size.save_scenes(folder / "data", model.lower(), GRIDS[256])
        for path in ("trl", "boxrl"):
            engine = {"shared_prefix": path == "boxrl"}
            recipe = full_size.recipe_of(
                folder / "data", folder / "model", folder / path, engine=engine,
                freeze_vision=True, lora={"r": 8, "alpha": 16}, learning_rate=1e-5,
            )  # fmt: skip
            row[path] = full_size.measure(recipe)[-1].syncs
    return row


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keeps what was counted")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(1)
    counted = Counted(args.rows)
    rows = [
        row
        for model in args.models
        for completion in COMPLETIONS
        for tokens in GRIDS
        for row in compare(counted, model, tokens, completion)
    ]
    tables = {"A prompt of Qwen2.5-VL-3B": count_ways(counted), "One micro-batch, counted": rows}
    if NO_PHANTOM:
        print(f"waits of the host are not counted: {NO_PHANTOM}", file=sys.stderr)
    else:
        waits = [counted.take(count_syncs, model) for model in args.models]
        tables["Waits of the host in a micro-batch, LoRA, frozen vision tower"] = waits
    print_tables(tables, args.json)


if __name__ == "__main__":
    main()
