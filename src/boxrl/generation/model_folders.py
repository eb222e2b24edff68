"""Model folders, read without torch."""

from __future__ import annotations

import re
from pathlib import Path

from boxrl.config import PACKAGED_MODELS
from boxrl.errors import DataError, UsageError
from boxrl.families import Family
from boxrl.guard.files import read_json_object

WEIGHTS = Path(__file__).parents[1] / "engines" / "tiny" / "weights"
PACKAGED = dict(zip(PACKAGED_MODELS, (WEIGHTS / "half_taught", WEIGHTS / "taught"), strict=True))
"""Models inside the package by name; `tiny` is under-trained: RL has something to repair."""


def model_folder(model: str) -> Path:
    """The folder of a packaged model or the folder itself.

    Raises:
        UsageError: no such folder. Nothing is ever downloaded.
    """
    folder = PACKAGED.get(model, Path(model))
    if not folder.is_dir():
        of_the_hub = re.fullmatch(r"[\w-]+/[\w.-]+", model) is not None
        hint = f". Fetch models of the hub beforehand: hf download {model} --local-dir DIR"
        raise UsageError(
            f"no model folder {model}; packaged models: {', '.join(PACKAGED)}"
            f"{hint if of_the_hub else ''}"
        )
    return folder


def image_token_ids(folder: Path, family: Family) -> list[int]:
    """Ids of the image and vision tokens, which must never be sampled as text.

    Args:
        folder: model folder; without a tokenizer.json nothing is known and nothing returned.
        family: names the tokens.

    Raises:
        UsageError: tokenizer.json is damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return []
    try:
        added = read_json_object(path)["added_tokens"]
        return sorted(token["id"] for token in added if token["content"] in family.image_tokens)
    except DataError as error:
        raise UsageError(f"{error}; the model folder is damaged") from error
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: no tokenizer ({error!r}); the model folder is damaged"
        ) from error
