"""Pixel limits have one owner: they are refused where they come in among a library's options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from boxrl.errors import UsageError
from boxrl.families.folder import EDGES

LIMITING = frozenset({*EDGES, *EDGES.values(), "do_resize"})
"""Names under which libraries take pixel limits, or leave images as they are."""


def refuse_limits(options: Any, door: str) -> None:
    """Refuse pixel limits among options that a library takes as they stand.

    Args:
        options: nested mappings and lists.
        door: what they were given by.

    Raises:
        UsageError: there is one among them.
    """
    found = next(_limiting(options), None)
    if found:
        raise UsageError(
            f"{door}: {found!r} would move the frame of the boxes unseen; name pixel limits by "
            "--min-pixels and --max-pixels (a recipe's min_pixels and max_pixels)"
        )


def _limiting(options: Any) -> Iterator[str]:
    if isinstance(options, Mapping):
        yield from (str(name) for name in options if name in LIMITING)
    values = options.values() if isinstance(options, Mapping) else options
    if isinstance(options, (Mapping, list, tuple)):
        for value in values:
            yield from _limiting(value)
