"""What ends a training from outside boxrl, in words: memory, disks, libraries, templates."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError

from boxrl.config import Recipe
from boxrl.engines.requirements import TRACKERS
from boxrl.engines.training.checkpoints import last_whole
from boxrl.errors import BoxrlError, DataError, UsageError

FILES = (OSError, SafetensorError, DataError)
"""What is raised about files and what stands in them."""

FULL_DISK = ("PytorchStreamWriter", "iostream error", "unexpected pos")
"""How torch.save says that a file could not be written to its end."""

LIBRARIES = frozenset({
    "accelerate", "bitsandbytes", "datasets", "deepspeed", "huggingface_hub", "peft",
    "transformers", "trl", *TRACKERS,
})  # fmt: skip
"""Who speaks of recipes; what they call, torch for one, speaks through them."""

SPEAKERS = LIBRARIES | {"boxrl"}


@contextmanager
def build_errors(recipe: Recipe) -> Iterator[None]:
    """While model and trainer are built; files and recipes speak for themselves."""
    try:
        yield
    except BoxrlError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, recipe.out, "before the first step") from error
        told = library_error(error, recipe)
        if told is None:
            raise
        raise told from error


@contextmanager
def training_errors(recipe: Recipe, step: Callable[[], int]) -> Iterator[None]:
    """While it trains and saves, `step` says how far it has come."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        told = user_error(error, recipe, step()) or library_error(error, recipe)
        if told is None:
            raise
        raise told from error


def library_error(error: Exception, recipe: Recipe) -> UsageError | None:
    """What a library says against the recipe, in one line; None where no library spoke.

    Args:
        error: as it was raised.
        recipe: whose keys are named where the library names them.
    """
    packages = [
        frame.f_globals.get("__name__", "").partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    library = next((name for name in reversed(packages) if name in SPEAKERS), "boxrl")
    if library != packages[-1] and isinstance(error, (RuntimeError, AssertionError, IndexError)):
        library = "boxrl"  # tensors that do not fit speak of code, whoever calls torch
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, TemplateError):
        return UsageError(f"{recipe.model}: its chat template cannot be rendered ({said})")
    if library == "boxrl":
        return None
    where = "train.lora" if library == "peft" else str(recipe.out)
    keys = ", ".join(_named_keys(recipe, said)) or where
    return UsageError(f"{keys}: {library} refuses the recipe: {said:.400}")


def _named_keys(recipe: Recipe, said: str) -> Iterator[str]:
    """Keys of libraries' options that a message names, or whose values it does."""
    options: dict[str, Any] = {f"train.trl.{key}": v for key, v in recipe.train.trl.items()}
    if recipe.train.lora is not None:
        options |= {f"train.lora.{key}": v for key, v in recipe.train.lora.model_dump().items()}
    words = set(re.findall(r"\w+", said.casefold()))
    joined = re.sub(r"\W+", "_", said.casefold())  # "target modules" is target_modules
    for key, value in options.items():
        name = key.rpartition(".")[2].removesuffix("s")
        values = value if isinstance(value, list) else [value]
        if (len(name) > 3 and name in joined) or words.intersection(
            item.casefold() for item in values if isinstance(item, str)
        ):
            yield key


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
    if isinstance(error, RuntimeError) and any(words in said for words in FULL_DISK):
        said = f"a file could not be written to its end, as on a full disk: {said}"
    elif not isinstance(error, FILES):
        return None
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
