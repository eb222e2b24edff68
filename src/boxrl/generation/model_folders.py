"""Model folders, read without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from boxrl.config import PACKAGED_MODELS, is_hub_id
from boxrl.errors import DataError, UsageError
from boxrl.families import Family
from boxrl.generation.hub import hub_configs, hub_folder
from boxrl.guard.files import read_json_object

WEIGHTS = Path(__file__).parents[1] / "engines" / "tiny" / "weights"
PACKAGED = dict(zip(PACKAGED_MODELS, (WEIGHTS / "half_taught", WEIGHTS / "taught"), strict=True))
"""Models inside the package by name; `tiny` is under-trained: RL has something to repair."""

READS, READ_BYTES = 32, 2**16
"""Places that a file of weights is read at, first and last bytes among them, and bytes of each."""


def model_folder(model: str) -> Path:
    """The folder of a packaged model, the folder itself, or that of a model of the hub.

    Args:
        model: its name, path or id of the hub, OWNER/NAME, which is fetched where it is missing.

    Raises:
        UsageError: no such folder; or see `hub.hub_folder`, as for other errors.
    """
    return _folder(model, hub_folder)


def config_folder(model: str) -> Path:
    """The same folder for who reads configs, tokenizer and templates alone.

    Args:
        model: as of `model_folder`; of one of the hub, no weights are fetched.

    Raises:
        UsageError: see `model_folder`.
    """
    return _folder(model, hub_configs)


def _folder(model: str, from_hub: Callable[[str], Path]) -> Path:
    folder = PACKAGED.get(model, Path(model))
    if folder.is_dir():
        return folder
    if is_hub_id(model):
        return from_hub(model)
    raise UsageError(
        f"no model folder {model}; packaged models: {', '.join(PACKAGED)}; models of the hub by "
        "their id, OWNER/NAME"
    )


def hash_weights(folder: Path) -> str:
    """Short SHA-256 over samples of a model's weights, which tells one training from another.

    Args:
        folder: of the model; a few megabytes of each file are read, whatever its size.
    """
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as handle:
            for place in range(READS):
                handle.seek(max(size - READ_BYTES, 0) * place // (READS - 1))
                digest.update(handle.read(READ_BYTES))
    return digest.hexdigest()[:12]


def image_token_ids(folder: Path, family: Family) -> list[int]:
    """Ids of the image and vision tokens, which must never be sampled as text.

    Args:
        folder: model folder; without a tokenizer.json nothing is known and nothing returned.
        family: names the tokens.

    Raises:
        UsageError: tokenizer.json is damaged.
    """
    return sorted(token.id for token in added_tokens(folder) if token.text in family.image_tokens)


class AddedToken(NamedTuple):
    """A token beside the vocabulary proper; decoders drop those that are special."""

    id: int
    text: str
    special: bool


def added_tokens(folder: Path) -> list[AddedToken]:
    """Those that a folder's tokenizer.json names; none where it has no such file.

    Raises:
        UsageError: tokenizer.json is damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return []
    try:
        rows = read_json_object(path)["added_tokens"]
        return [AddedToken(row["id"], row["content"], bool(row.get("special"))) for row in rows]
    except DataError as error:
        raise UsageError(f"{error}; the model folder is damaged") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: no tokenizer ({error!r}); the model folder is damaged"
        ) from error


NEUTRAL = {"repetition_penalty": 1.0, "top_k": -1, "top_p": 1.0, "min_p": 0.0}
"""Settings that vLLM and SGLang take from a model's generation_config.json where a request leaves
them out, and the values that change nothing."""


def neutral_sampling(folder: Path) -> dict[str, float]:
    """What a request must say so that its server does not sample by the folder's own settings.

    Raises:
        UsageError: generation_config.json is damaged.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    try:
        own = read_json_object(path)
    except DataError as error:
        raise UsageError(f"{error}; the model folder is damaged") from error
    return {name: value for name, value in NEUTRAL.items() if own.get(name) not in (None, value)}
