"""Models of the hub by id: from its cache, and fetched where they are missing.

All is done by huggingface_hub, whose cache other programs share; what is fetched is data, never
code: configs, tokenizers, templates and safetensors.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boxrl.data.files import is_whole
from boxrl.errors import OFFLINE_BY_DEFAULT, BoxrlError, DataError, MissingExtra, UsageError
from boxrl.guard.files import read_json_object

WEIGHTS = "*.safetensors"

FILES = ["*.json", WEIGHTS, "*.jinja", "*.txt", "*.model"]
"""What of a repository makes a model folder."""

CONFIG = "config.json"

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""One of them says how images are resized; other programs may have fetched config.json alone."""

ELSEWHERE = ["*/*"]
"""Folders inside a repository: other formats of the same weights."""

TRUE = {"1", "ON", "YES", "TRUE"}
"""As huggingface_hub reads its switches."""


def may_fetch() -> bool:
    """Whether the hub may be asked: nobody but boxrl itself has set HF_HUB_OFFLINE."""
    switches = ["TRANSFORMERS_OFFLINE"]
    if not os.environ.get(OFFLINE_BY_DEFAULT):
        switches.append("HF_HUB_OFFLINE")
    return not any(os.environ.get(name, "").upper() in TRUE for name in switches)


def hub_folder(model: str) -> Path:
    """The folder of a model of the hub, in the hub's cache.

    Law: what was fetched once is never asked for again; an interrupted download goes on.

    Args:
        model: its id, OWNER/NAME.

    Raises:
        UsageError: it is missing, private or gated, or missing here with HF_HUB_OFFLINE set.
        DataError: the hub cannot be reached, the download broke off, or the disk is too small.
        MissingExtra: huggingface_hub is not installed.
    """
    return _cached_or_fetched(model, weights=True)


def hub_configs(model: str) -> Path:
    """The same folder, of which all but the weights is needed: nothing large is fetched.

    Args:
        model: its id, OWNER/NAME.

    Raises:
        UsageError, DataError, MissingExtra: see `hub_folder`.
    """
    return _cached_or_fetched(model, weights=False)


def _cached_or_fetched(model: str, *, weights: bool) -> Path:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra("a model of the hub", "train")
    if (cached := find_cached(model, weights=weights)) is not None:
        return cached
    if not may_fetch():
        raise UsageError(
            f"{model}: not in the hub's cache, and HF_HUB_OFFLINE is set, so nothing is fetched; "
            "unset it, or name a model folder"
        )
    with _online(), _hub_errors(model):
        if weights:
            _check_space(model)
        folder = Path(_snapshot(model, weights=weights))
    if not is_complete(folder, weights=weights):
        raise UsageError(
            f"{model}: holds no vision-language model that boxrl loads: expected config.json, "
            "preprocessor_config.json and safetensors"
        )
    return folder


def push_folder(folder: Path, model: str, private: bool) -> str:
    """Put a model folder onto the hub; files that are there already are not sent again.

    Args:
        folder: the model folder.
        model: id of the repository, OWNER/NAME; made where it is missing.
        private: who may see a repository that is made.

    Returns:
        Its address.

    Raises:
        UsageError: nobody is logged in, the id is not the user's, or HF_HUB_OFFLINE is set.
        DataError: the hub cannot be reached, or the upload broke off.
    """
    if not may_fetch():
        raise UsageError("--push-to-hub: HF_HUB_OFFLINE is set, so nothing is sent; unset it")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import get_token

    if get_token() is None:
        raise UsageError("--push-to-hub: nobody is logged in; run: hf auth login, or set HF_TOKEN")
    with _online(), _hub_errors(model):
        try:
            made = HfApi().create_repo(model, private=private, exist_ok=True)
            HfApi().upload_folder(repo_id=made.repo_id, folder_path=folder)
        except HFValidationError as error:
            said = " ".join(str(error).split())
            raise UsageError(f"--push-to-hub {model}: {said:.200}") from error
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403):
                raise UsageError(
                    f"--push-to-hub {model}: the hub refuses; is the token allowed to write there?"
                ) from error
            raise
    return str(made)


def find_cached(model: str, *, weights: bool = True) -> Path | None:
    """The model's folder in the hub's cache; None where it is not there as a whole.

    Args:
        model: its id.
        weights: whether they are needed, too.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(_snapshot(model, weights=weights, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError, ValueError):
        return None
    return folder if is_complete(folder, weights=weights) else None


def is_complete(folder: Path, *, weights: bool = True) -> bool:
    """Whether configs and all weights are there.

    Args:
        folder: of a model.
        weights: whether they are needed, too.
    """
    if not (folder / CONFIG).is_file() or not any((folder / n).is_file() for n in PROCESSORS):
        return False
    if not weights:
        return True
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob(WEIGHTS))
    try:
        parts = read_json_object(index).get("weight_map")
    except DataError:
        return False
    names = set(parts.values()) if isinstance(parts, dict) else {""}
    return all((folder / str(name)).is_file() for name in names)


def _snapshot(model: str, *, weights: bool = True, **options: Any) -> Any:
    from huggingface_hub import snapshot_download

    files = FILES if weights else [name for name in FILES if name != WEIGHTS]
    return snapshot_download(model, allow_patterns=files, ignore_patterns=ELSEWHERE, **options)


@contextmanager
def _online() -> Iterator[None]:
    """Let huggingface_hub reach the hub, with its progress bars; afterwards all is as it was."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    offline, silent = constants.HF_HUB_OFFLINE, are_progress_bars_disabled()
    constants.HF_HUB_OFFLINE = False
    if not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        if silent:
            disable_progress_bars()


def _check_space(model: str) -> None:
    """Refuse a download that the disk of the cache cannot hold.

    Raises:
        DataError: it is too small.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import DryRunError

    cache = Path(constants.HF_HUB_CACHE)
    try:
        files = _snapshot(model, dry_run=True)
    except DryRunError:
        return  # the download says why it cannot be
    sizes = [f.file_size for f in files if f.will_download and is_whole(f.file_size)]
    there = next(path for path in (cache, *cache.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if sum(sizes) > free:
        raise DataError(
            f"{model}: {sum(sizes) / 1e9:.1f} GB are to be fetched into {cache}, where "
            f"{free / 1e9:.1f} GB are free; free some, or set HF_HOME to a larger disk"
        )


@contextmanager
def _hub_errors(model: str) -> Iterator[None]:
    """What huggingface_hub and the network raise, in one line with the next step."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    again = "run the same command again, and it goes on where it stopped"
    try:
        yield
    except GatedRepoError as error:
        raise UsageError(
            f"{model}: is gated; accept its terms at https://huggingface.co/{model}, then log in: "
            "hf auth login, or set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UsageError(
            f"{model}: no such folder here, and the hub has no such model, or it is private; "
            "check the name, or log in: hf auth login, or set HF_TOKEN"
        ) from error
    except LocalEntryNotFoundError as error:
        raise DataError(
            f"{model}: not in the hub's cache, and the hub cannot be reached; name a model "
            f"folder, or {again}"
        ) from error
    except HfHubHTTPError as error:
        said = " ".join(str(error).split())
        raise DataError(f"{model}: the hub refuses ({said:.200}); {again}") from error
    except OSError as error:
        raise DataError(
            f"{model}: the download broke off ({error.strerror or error!r:.200}); {again}"
        ) from error
    except BoxrlError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{model}: the download broke off ({said:.200}); {again}") from error
