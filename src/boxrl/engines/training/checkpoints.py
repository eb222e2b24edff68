"""Which checkpoint an interrupted run goes on from, and the logs cut back to it."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from boxrl.data.files import is_whole, write_atomic
from boxrl.errors import DataError, UsageError
from boxrl.guard.files import parse_yaml, read_bytes, read_json_object
from boxrl.runs import differences

RECIPE = "recipe.yaml"
"""What a checkpoint is of; written before its weights."""


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; None where there is none.

    A kill or a full disk leaves a checkpoint that is cut short. It is passed over, and the one
    before it is taken.
    """
    found = [p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    return next((p for p in sorted(found, key=step_of, reverse=True) if is_complete(p)), None)


def require_same_recipe(checkpoint: Path, recipe: str) -> None:
    """Refuse a checkpoint that was put here from another run.

    Weights of another model fail to load; another learning rate would be taken up silently.

    Raises:
        UsageError: it is of another recipe, or of none.
    """
    next_step = "remove it to go on from the one before, or choose another folder"
    try:
        own = read_bytes(checkpoint / RECIPE).decode("utf-8", "replace")
    except DataError as error:
        raise UsageError(
            f"{checkpoint}: holds no {RECIPE}, so no run of boxrl wrote it; {next_step}"
        ) from error
    if changed := differences(own, recipe):
        raise UsageError(f"{checkpoint}: is of another recipe: {changed}; {next_step}")


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def rows_begun(checkpoint: Path) -> int | None:
    """Rows of a micro-batch of one process as the run began; None where that is not written down.

    transformers takes the figure over from checkpoint to checkpoint, whoever goes on.
    """
    rows = read_json_object(checkpoint / "trainer_state.json").get("train_batch_size")
    return rows if is_whole(rows) and rows > 0 else None


def require_optimizer(checkpoint: Path) -> None:
    """Refuse a checkpoint of weights alone.

    transformers would go on from it with another optimizer, and its schedule from the first step.

    Raises:
        UsageError: there is no state of the optimizer in it.
    """
    # transformers' or FSDP's, and DeepSpeed's.
    if not any(any(checkpoint.glob(name)) for name in ("optimizer*", "global_step*")):
        raise UsageError(
            f"{checkpoint}: holds no state of the optimizer (train.trl.save_only_model leaves it "
            "out), so no run goes on from it; begin one from its weights in another folder: boxrl "
            f"export {checkpoint} --out DIR, then model=DIR"
        )


def cut_alike(checkpoint: Path, recipe: str) -> bool:
    """Whether a checkpoint was written by micro-batches of as many prompts as a recipe has.

    Args:
        checkpoint: of the same recipe but for that; see `require_same_recipe`.
        recipe: YAML.
    """
    own = read_bytes(checkpoint / RECIPE).decode("utf-8", "replace")
    one, other = (parse_yaml(text)["train"].get("micro_batch_prompts") for text in (own, recipe))
    return bool(one == other)


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is as long as it says it is.

    trainer_state.json is written last; weights carry their length in their header, and what
    torch saved is a zip archive, whose directory stands at its end.
    """
    try:
        state = read_json_object(checkpoint / "trainer_state.json")
        for path in checkpoint.rglob("*.safetensors"):
            with safe_open(path, "pt"):
                pass
    except (OSError, DataError, SafetensorError):
        return False
    archives = [p for suffix in ("*.pt", "*.pth", "*.bin") for p in checkpoint.rglob(suffix)]
    return state.get("global_step") == step_of(checkpoint) and all(map(_is_saved, archives))


def _is_saved(path: Path) -> bool:
    # training_args.bin and the rest are all written by torch.save.
    return zipfile.is_zipfile(path)


def cut_back(log: Path, step: int) -> list[dict[str, Any]]:
    """Drop the rows of a JSONL log that were written after `step`, and a last line cut short.

    Returns:
        The rows that stay.
    """
    if not log.exists():
        return []
    rows = []
    for line in log.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            stays = row["step"] <= step
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # the line that was being written, or a damaged one
        if stays:
            rows.append(row)
    with write_atomic(log) as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return rows
