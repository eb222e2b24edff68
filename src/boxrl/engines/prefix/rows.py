"""A batch as TRL holds it, row by row."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Rows(NamedTuple):
    """A batch as TRL holds it: prompts left-padded, completions right-padded.

    Attributes:
        prompt_ids, prompt_mask: "b p".
        completion_ids, completion_mask: "b c".
        types: "b p", what the processor says of each prompt token, such as 1 for images; or None.
        images: per row the model's inputs that hold its image, by name; None for a row whose image
            is its group's.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    types: Tensor | None
    images: list[dict[str, Tensor] | None]

    def between(self, start: int, end: int) -> Rows:
        """The rows from `start` up to `end`."""
        return Rows(*(x if x is None else x[start:end] for x in self))  # type: ignore[arg-type]
