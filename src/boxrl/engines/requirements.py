"""What a recipe asks for that its model or this machine lacks, seen before anything is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from boxrl.config import Lora, Recipe
from boxrl.errors import DataError, UsageError, did_you_mean
from boxrl.guard.files import read_json_object

TRACKERS = {
    "clearml": "clearml", "codecarbon": "codecarbon", "comet_ml": "comet_ml", "dvclive": "dvclive",
    "mlflow": "mlflow", "neptune": "neptune", "swanlab": "swanlab", "tensorboard": "tensorboard",
    "trackio": "trackio", "wandb": "wandb",
}  # fmt: skip
"""Names of `train.trl.report_to` -> the package that each needs."""

OUTPUT_LAYER = "lm_head"

CHECKPOINTING = ("gradient_checkpointing", "activation_checkpointing")
"""One option of transformers; renamed after 5.19, the last that vLLM goes with."""


def check_requirements(recipe: Recipe, folder: Path) -> None:
    """Refuse trackers that are not installed and adapters of layers that there are not.

    Args:
        recipe: what is to be trained.
        folder: of its model; only names of weights are read.

    Raises:
        UsageError: the key, and what to do about it.
    """
    _check_trackers(recipe.train.trl.get("report_to"))
    if recipe.train.lora is not None:
        _check_targets(recipe.train.lora, folder)


def check_options(recipe: Recipe) -> None:
    """Refuse names under `train.trl` that TRL's config has no field for; loads TRL.

    Args:
        recipe: what is to be trained.

    Raises:
        UsageError: the first such name.
    """
    if not recipe.train.trl:
        return
    if recipe.method == "grpo":
        from trl import GRPOConfig as Config
    else:
        from trl import SFTConfig as Config
    known = {field.name for field in fields(Config)} | set(CHECKPOINTING)
    for name in recipe.train.trl:
        if name not in known:
            raise UsageError(
                f"train.trl.{name}: {Config.__name__} has no such option"
                f"{did_you_mean(sorted(known), name)}"
            )


def _check_trackers(named: Any) -> None:
    for name in [named] if isinstance(named, str) else named if isinstance(named, list) else ():
        package = TRACKERS.get(str(name))
        if package and importlib.util.find_spec(package) is None:
            raise UsageError(
                f"train.trl.report_to: {name} is not installed; run: pip install {package}"
            )


def _check_targets(lora: Lora, folder: Path) -> None:
    """Each module that is named must be one; patterns, which name paths, are peft's to judge."""
    if isinstance(lora.target_modules, str):
        return
    modules = [name.removesuffix(".weight") for name in _weight_names(folder)]
    for target in lora.target_modules:
        if target.rpartition(".")[2] == OUTPUT_LAYER:
            raise UsageError(
                f"train.lora.target_modules: TRL reads the weights of {OUTPUT_LAYER} past any "
                "adapter, which would never be trained; leave it out"
            )
        if modules and not any(f".{module}".endswith(f".{target}") for module in modules):
            last = {module.rpartition(".")[2] for module in modules}
            raise UsageError(
                f"train.lora.target_modules: {folder} has no module {target!r}"
                f"{did_you_mean(sorted(last), target)}"
            )


def _weight_names(folder: Path) -> Sequence[str]:
    """Names of the folder's weights as stored; none where they are no safetensors."""
    index = folder / "model.safetensors.index.json"
    try:
        if index.is_file():
            return list(read_json_object(index).get("weight_map") or ())
        with safe_open(folder / "model.safetensors", "np") as weights:
            return list(weights.keys())
    except (DataError, SafetensorError, OSError):
        return ()  # who loads them says what is wrong
