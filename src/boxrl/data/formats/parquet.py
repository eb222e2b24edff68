"""Parquet files of Hugging Face data sets: rows, names of labels, and the images inside.

Source: huggingface/datasets 5.2; Apache Arrow's pyarrow reads the files. An image is {bytes, path};
names stand in the schema's metadata, key `huggingface`, or in the YAML at the head of README.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from boxrl.data.images import read_header
from boxrl.errors import DataError, MissingExtra
from boxrl.guard.files import parse_yaml_texts, read_bytes, read_text
from boxrl.guard.outputs import refuse_link

ROWS_AT_ONCE = 16
"""Images stand in the rows."""


def read_parquet(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """(row, where) of every row of a file.

    Args:
        path: a .parquet file.

    Raises:
        DataError: it cannot be read.
        MissingExtra: pyarrow is not installed.
    """
    count = 0
    try:
        for batch in _opened(path).iter_batches(ROWS_AT_ONCE):
            for row in batch.to_pylist():
                count += 1
                yield row, f"{path}: row {count}"
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable parquet file ({_one_line(error)})") from error


def _opened(path: Path) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise MissingExtra("data convert hf of parquet files", "parquet") from error
    try:
        return ParquetFile(path)
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable parquet file ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


Column = tuple[str, ...]
"""Where a column stands: its name behind those of the columns that it stands in."""

_FORMS = ("info", "features", "feature", "dataset_info", "dtype", "class_label", "sequence", "list",
          "struct", "names")  # fmt: skip
"""Keys of features that are no columns."""


def read_columns(files: Sequence[Path], root: Path) -> list[tuple[Column, dict[int, str]]]:
    """Every column that the files' features describe, else README.md, and names of its numbers.

    Args:
        files: of the data set.
        root: its folder.
    """
    found = [_features(path) for path in files if path.suffix == ".parquet"]
    features = [content for content in found if content is not None]
    for readme in (root / "README.md", root.parent / "README.md") if not features else ():
        if readme.is_file():
            head = read_text(readme).partition("---")[2].partition("\n---")[0]
            try:
                features = [parse_yaml_texts(head)]
            except yaml.YAMLError:
                features = []
            break
    return [column for content in features for column in _columns(content)]


def _features(path: Path) -> Any:
    metadata = _opened(path).schema_arrow.metadata or {}
    try:
        return json.loads(metadata.get(b"huggingface", b"null"))
    except (ValueError, RecursionError):
        return None


def _columns(features: Any) -> Iterator[tuple[Column, dict[int, str]]]:
    """The columns of features, which `datasets` has by name and README.md as lists of `name`."""
    waiting: list[tuple[Column, Any]] = [((), features)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, list):
            waiting += [(path, child) for child in reversed(node)]
        if not isinstance(node, dict):
            continue
        if isinstance(node.get("name"), str):
            path = (*path, node["name"])
        yield path, _listed(node.get("names"))
        waiting += [
            (path if key in _FORMS else (*path, str(key)), child)
            for key, child in reversed(node.items())
        ]


def _listed(names: Any) -> dict[int, str]:
    """Names by number; empty where these are none."""
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return dict(enumerate(names))
    if isinstance(names, dict) and all(str(key).isdecimal() for key in names):
        return {int(key): str(name) for key, name in names.items()}
    return {}


class ImageWriter:
    """Writes images of rows as files, under their own names; never over another file."""

    def __init__(self, folder: Path) -> None:
        """Write nothing yet.

        Args:
            folder: made with the first image.
        """
        self.folder = folder

    def write(self, content: bytes, name: Any, where: str) -> str:
        """The file's name in the folder.

        A name that another content has gets a part of the content's hash behind it, so that the
        same rows give the same names in every run.

        Args:
            content: an image file.
            name: what the row calls it; anything without a name gives the hash.
            where: start of the error message.

        Raises:
            DataError: no image.
        """
        digest = hashlib.sha256(content).hexdigest()[:12]
        asked = PurePosixPath(str(name or "").replace("\\", "/")).name.lstrip(".") or digest
        self.folder.mkdir(parents=True, exist_ok=True)
        written = self.folder / f".{digest}.part"
        refuse_link(written)
        try:
            written.write_bytes(content)
            kind = read_header(written, where).format.lower()
            if not PurePosixPath(asked).suffix:
                asked += f".{'jpg' if kind == 'jpeg' else kind}"
            path = self.folder / asked
            for free in (path, path.with_name(f"{path.stem}-{digest}{path.suffix}")):
                refuse_link(free)
                if not free.exists():
                    written.replace(free)
                    return free.name
                if free.is_file() and read_bytes(free) == content:
                    return free.name
        finally:
            written.unlink(missing_ok=True)
        raise DataError(f"{where}: {path} stands there and is another image")
