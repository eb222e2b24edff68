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


def read_label_names(files: Sequence[Path], root: Path) -> dict[int, str]:
    """Names of labels by number: of the files' features, else of README.md; empty without either.

    Args:
        files: of the data set.
        root: its folder.
    """
    features: Any = None
    if files[0].suffix == ".parquet":
        metadata = _opened(files[0]).schema_arrow.metadata or {}
        try:
            features = json.loads(metadata.get(b"huggingface", b"null"))
        except (ValueError, RecursionError):
            features = None
    for readme in (root / "README.md", root.parent / "README.md") if features is None else ():
        if readme.is_file():
            head = read_text(readme).partition("---")[2].partition("\n---")[0]
            try:
                features = parse_yaml_texts(head)
            except yaml.YAMLError:
                features = None
            break
    return _names(features) or {}


def _names(features: Any) -> dict[int, str] | None:
    """The first list of names in features or in the YAML of README.md, however deep."""
    if isinstance(features, dict):
        names = features.get("names")
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return dict(enumerate(names))
        if isinstance(names, dict) and names and all(str(key).isdecimal() for key in names):
            return {int(key): str(name) for key, name in names.items()}
    children = features.values() if isinstance(features, dict) else features
    for child in children if isinstance(features, dict | list) else ():
        if found := _names(child):
            return found
    return None


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
