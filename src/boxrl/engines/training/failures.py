"""What ends a training from outside boxrl, in words: memory, disks, checkpoints, templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError

from boxrl.config import Recipe
from boxrl.engines.training.checkpoints import last_whole
from boxrl.errors import BoxrlError, DataError, UsageError

FULL_DISK = ("PytorchStreamWriter", "iostream error", "unexpected pos")
"""How torch.save says that a file could not be written to its end."""

FORESEEN = (
    OSError, MemoryError, SafetensorError, UnpicklingError, TemplateError, RuntimeError,
    FloatingPointError, DataError,
)  # fmt: skip


@contextmanager
def build_errors(recipe: Recipe) -> Iterator[None]:
    """While model and trainer are built only memory needs words; files speak for themselves."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, recipe.out, "before the first step") from error


@contextmanager
def training_errors(recipe: Recipe, step: Callable[[], int]) -> Iterator[None]:
    """While it trains and saves, `step` says how far it has come."""
    try:
        yield
    except FORESEEN as error:
        told = user_error(error, recipe, step())
        if told is None:
            raise
        raise told from error


def user_error(error: BaseException, recipe: Recipe, step: int) -> BoxrlError | None:
    """The error for people; None where it is a bug."""
    said = " ".join(str(error).split())
    if is_out_of_memory(error):
        return out_of_memory(error, recipe.out, f"at step {step}")
    # The words are those of torch.multinomial, asked to draw from a model that is NaN.
    if isinstance(error, FloatingPointError) or "probability tensor contains" in said:
        return DataError(
            f"{recipe.out}: loss or gradient is NaN or infinite at step {step}; lower "
            "train.learning_rate and start again in another folder"
        )
    if isinstance(error, UnpicklingError):
        return DataError(
            f"{recipe.out}: a checkpoint contains pickled code; refusing to load it. "
            "Use only checkpoints that boxrl wrote"
        )
    if isinstance(error, TemplateError):
        return UsageError(f"{recipe.model}: its chat template cannot be rendered ({said})")
    if isinstance(error, RuntimeError):
        if not any(words in said for words in FULL_DISK):
            return None
        said = f"a file could not be written to its end, as on a full disk: {said}"
    return DataError(
        f"{recipe.out}: stopped at step {step} ({said}); fix this, then {_next_step(recipe.out)}"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says so, as Python, torch on a GPU or torch on a CPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def out_of_memory(error: BaseException, out: Path, when: str) -> UsageError:
    """What to change."""
    gpu = "GPU " if isinstance(error, torch.OutOfMemoryError) else ""
    return UsageError(
        f"{out}: out of {gpu}memory {when}; lower train.micro_batch_prompts (--resume takes it) or "
        "num_generations, train with LoRA, or see what needs it: boxrl train RECIPE --dry-run"
    )


def _next_step(out: Path) -> str:
    last = last_whole(out / "checkpoints")
    if last:
        return f"continue from {last.name} with --resume"
    return "start again with --resume" if (out / "metrics.jsonl").exists() else "start again"
