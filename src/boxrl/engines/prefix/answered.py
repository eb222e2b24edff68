"""Answered prompts, as SFT learns from them, as one row without padding; questions share an image.

Of several questions of one image all that they begin with, the image included, is run once, and
what follows is to it what the completions of a group are to their prompt:

    [ image, words | question_1, answer_1 | question_2, answer_2 | ... | next image, ... ]

A sample whose image no other sample has is a prompt with one completion, its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from boxrl.engines.prefix.images import row_images, tiles_per_row, token_types
from boxrl.engines.prefix.rows import Rows
from boxrl.engines.prefix.shared_prefix import pack, unwrap
from boxrl.engines.prefix.trees import find_beginning

UNLABELLED = -100
"""The label of a token that nothing is learned from."""


class Answered(NamedTuple):
    """Samples of a batch by image.

    Attributes:
        rows: a completion is what stands behind what the questions of its image share.
        labels: Long "b c" of completions, UNLABELLED on questions and padding.
        groups: row indices per image, or per sample where its image is not shared.
        tokens: of all samples, without padding.
        apart: why questions of an image do not share it, in words; "" where they do, None where
            no image has several.
    """

    rows: Rows
    labels: Tensor
    groups: list[list[int]]
    tokens: int
    apart: str | None


class _Cut(NamedTuple):
    """A sample by its row in TRL's batch: where its completion begins, and where it ends."""

    row: int
    start: int
    end: int


def split_answered(model: Any, inputs: dict[str, Any], images: Tensor) -> Answered:
    """A batch of TRL's collator, sorted by image and split where questions part.

    Args:
        model: wrapped or not.
        inputs: padded on the right: `input_ids`, `attention_mask` and `labels` "b n", one image
            each, and what the processor says of each token.
        images: Long "b", equal for rows of one image.
    """
    known, lengths = inputs["labels"] != UNLABELLED, inputs["attention_mask"].sum(1)
    # What predicts a labelled token has to stand behind the prompt; see `pack`.
    starts = torch.where(known.any(1), known.int().argmax(1), lengths)
    listed = torch.stack([images.to(starts), starts, lengths]).tolist()  # one wait for a GPU
    samples = sorted(enumerate(zip(*listed, strict=True)), key=lambda sample: sample[1][0])
    cuts = [_Cut(row, start, end) for row, (_, start, end) in samples]
    by_image: dict[int, list[int]] = {}
    for place, (_, (image, *_)) in enumerate(samples):
        by_image.setdefault(image, []).append(place)
    own, types = _images(unwrap(model).config, inputs), token_types(inputs)
    rows = _build_rows(inputs["input_ids"], types, cuts, own)
    groups: list[list[int]] = []
    apart: str | None = None
    for same in by_image.values():
        head = find_beginning(unwrap(model), rows, same) if len(same) > 1 else None
        if isinstance(head, int):
            groups.append(same)
            for place in same:
                cuts[place] = cuts[place]._replace(start=head)
        else:
            groups += [[place] for place in same]
        if len(same) > 1:
            apart = apart or ("" if isinstance(head, int) else head)
    if any(len(group) > 1 for group in groups):
        rows = _build_rows(inputs["input_ids"], types, cuts, own)
    labels = [inputs["labels"][row, start:end] for row, start, end in cuts]
    return Answered(rows, _padded(labels, value=UNLABELLED), groups, sum(listed[2]), apart)


def pack_answered(model: Any, answered: Answered) -> dict[str, Any]:
    """What the model with TRL's fused head takes for these samples; a label is that of a token.

    The attention mask is a number of ones: as many as there are tokens without padding, which TRL
    counts. The language model passes it through unread.

    Args:
        model: wrapped or not.
        answered: of `split_answered`.
    """
    inputs, layout = pack(model, answered.rows, answered.groups)
    labels = answered.labels.masked_select(answered.rows.completion_mask.bool())
    inputs["shift_labels"][0].index_copy_(0, layout.completions, labels)
    mask = inputs["attention_mask"].expand(1, 1, 1, answered.tokens)
    return inputs | {"attention_mask": mask, "shared_prefix": layout}


def _images(config: Any, inputs: dict[str, Any]) -> list[dict[str, Tensor] | None]:
    """Of each row of TRL's batch the model's inputs that hold its image."""
    ids, others = inputs["input_ids"], dict(inputs)
    if "pixel_values" in inputs and "image_grid_thw" not in inputs:
        others["num_tiles"] = tiles_per_row(inputs, config.image_token_id)
    return row_images(others, len(ids))


def _build_rows(
    ids: Tensor, types: Tensor | None, cuts: Sequence[_Cut], images: Sequence[Any]
) -> Rows:
    """Samples as prompts and completions."""
    prompts = [ids[row, :start] for row, start, _ in cuts]
    answers = [ids[row, start:end] for row, start, end in cuts]
    return Rows(
        _padded(prompts, "left"), _padded([torch.ones_like(x) for x in prompts], "left"),
        _padded(answers), _padded([torch.ones_like(x) for x in answers]),
        None if types is None else _padded([types[row, :start] for row, start, _ in cuts], "left"),
        [images[row] for row, _, _ in cuts],
    )  # fmt: skip


def _padded(parts: Sequence[Tensor], side: str = "right", value: int = 0) -> Tensor:
    """Long "b n" of rows of different lengths."""
    whole: Tensor = pad_sequence(list(parts), True, value, side)
    return whole
