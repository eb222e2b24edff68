"""What a call writes destroys nothing but what an earlier call of the same kind wrote.

An output is no input, no link, and no file of another kind: a page replaces a page, samples
replace samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from boxrl.errors import DataError, UsageError
from boxrl.guard.files import read_head

KINDS: dict[str, tuple[bytes, ...]] = {
    "samples": (b'"id"', b'"image"', b'"task"'),
    "rejected rows": (b'"reason"', b'"row"'),
    "changes": (b'"line"', b'"change"'),
    "rewards": (b'"id"', b'"rewards"'),
    "predictions": (b'"id"', b'"completion"'),
    "page": (b"boxrl report</title>",),
    "metrics": (b'"protocol"', b'"n"'),
    "rows": (b'"id"', b'"status"', b'"predictions"'),
    "benchmark": (b'"benchmark"', b'"summary"'),
    "benchmark run": (b'"method": "benchmark"',),
    "experiment": (b'"finding"', b'"question"'),
    "finding": (b"## ", b"**Again:**"),
    "coco": (b'"file_name"',),
    "coco results": (b'"image_id"', b'"category_id"', b'"score"'),
    "boxes": (b"sample", b"image", b"kind", b"label", b"x1"),
    "vlmr1": (b'"image"', b'"solution"'),
    "vlmr1 conversations": (b'"conversations"',),
    "ms-swift": (b'"messages"', b'"images"'),
    "easyr1": (b'"problem"', b'"answer"', b'"images"'),
    "accelerate config": (b"compute_environment:", b"distributed_type:"),
}
"""What stands within the first HEAD_BYTES of every file of a kind that boxrl writes."""

HEAD_BYTES = 2**20

EMPTY = (b"", b"[]", b"{}")
"""Files of any kind that hold nothing to lose."""


def refuse_link(path: Path) -> None:
    """Refuse to write where a link would lead elsewhere.

    Raises:
        DataError: the path is a link.
    """
    if path.is_symlink():
        raise DataError(f"{path}: is a link; nothing is written through links, name its target")


def check_outputs(outputs: Iterable[tuple[Path, str]], inputs: Iterable[Path]) -> None:
    """Check everything that a call will write, before it does anything.

    Args:
        outputs: each file with its kind, a key of KINDS.
        inputs: files and folders that the call reads.

    Raises:
        UsageError: an output is an input or is named twice, or stands there and is of another
            kind.
        DataError: it is a link, or cannot be read.
    """
    taken = {_identity(path): "is read by this call" for path in inputs}
    for path, kind in outputs:
        refuse_link(path)
        if (place := _identity(path)) in taken:
            raise UsageError(f"{path}: {taken[place]}; name another file to write")
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; name a file in it")
        if path.exists() and not is_of_kind(path, kind):
            raise UsageError(
                f"{path}: exists and is no file that this command writes ({kind}); remove it, or "
                "name another"
            )
        taken[place] = "is written by this call already"


def is_of_kind(path: Path, kind: str) -> bool:
    """Whether a file is of that kind, or holds nothing.

    Raises:
        DataError: it cannot be read.
    """
    head = read_head(path, HEAD_BYTES)
    return head.strip() in EMPTY or all(mark in head for mark in KINDS[kind])


def _identity(path: Path) -> object:
    """The same for every name of a file, links and hard links included."""
    try:
        found = path.stat()
    except OSError:
        return path.resolve()
    return found.st_dev, found.st_ino
