"""Batches as TRL holds them: whole groups, their images, and the rows of a packed forward."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from boxrl.engines.prefix.images import (
    BY_IMAGE,
    BY_PART,
    BY_TOKEN,
    TYPES,
    row_images,
    spread_images,
    token_types,
)
from boxrl.engines.prefix.kinds import answer_type
from boxrl.engines.prefix.rows import Rows
from boxrl.errors import UsageError


def check_whole_groups(n_rows: int, size: int) -> None:
    """Refuse rows of a process that are no whole groups of `size`.

    Raises:
        UsageError: a process holds a part of a group.
    """
    if n_rows % size:
        raise UsageError(
            f"a process holds {n_rows} completions, no whole groups of {size}; make "
            "per_device_train_batch_size x steps_per_generation a multiple of num_generations, or "
            "set engine.shared_prefix=false"
        )


def shuffle_groups(batch: dict[str, Any], size: int) -> dict[str, Any]:
    """Permute whole blocks of `size` rows; scalars stay.

    Raises:
        UsageError: a process holds a part of a group.
    """
    n_rows = len(batch["prompt_ids"])
    check_whole_groups(n_rows, size)
    order = torch.randperm(n_rows // size)[:, None] * size + torch.arange(size)
    rows = order.flatten()

    def permute(value: Any) -> Any:
        if torch.is_tensor(value):
            return value[rows.to(value.device)] if value.ndim else value
        return [value[row] for row in rows.tolist()] if isinstance(value, list) else value

    return {key: permute(value) for key, value in batch.items()}


def repeat_first_images(batch: dict[str, Any]) -> dict[str, Any]:
    """Give rows without an image the one of the row before, as a view: it takes no memory.

    Args:
        batch: as TRL splits it by rows, of groups that stand together.
    """
    pixels = batch.get("pixel_values")
    if not isinstance(pixels, list) or all(map(len, pixels)):
        return batch
    filled = dict(batch)
    for key in (*BY_IMAGE, *BY_PART):
        if isinstance(batch.get(key), list):
            filled[key] = [*accumulate(batch[key], lambda last, own: own if len(own) else last)]
    return filled | {"num_images": [1] * len(pixels)}


def keep_first_images(batch: dict[str, Any], size: int, chunk: int) -> dict[str, Any]:
    """Drop every image but that of a group's first row; counts say so: 1, 0, 0, ...

    Args:
        batch: as TRL splits it by rows, of whole groups of `size`.
        size: rows of a group.
        chunk: rows of a micro-batch, whose first row keeps its image, too.
    """
    if not isinstance(batch.get("pixel_values"), list):
        return batch
    first = [0 in (k % size, k % chunk) for k in range(len(batch["pixel_values"]))]
    kept = dict(batch)
    for key in (*BY_IMAGE, *BY_PART):
        if isinstance(batch.get(key), list):
            rows = zip(batch[key], first, strict=True)
            kept[key] = [value if keep else value[:0] for value, keep in rows]
    for key in ("num_images", "num_tiles"):
        if key in batch:
            counts = zip(batch[key], first, strict=True)
            kept[key] = [count if keep else 0 for count, keep in counts]
    return kept


def split_rows(inputs: dict[str, Any], n: int) -> Rows:
    """A batch as TRL hands it to its log-probabilities.

    Args:
        inputs: TRL's arguments: `input_ids` and `attention_mask` "b p+n", images, and what the
            processor says of each token.
        n: tokens of a completion.
    """
    ids, mask, types = inputs["input_ids"], inputs["attention_mask"], token_types(inputs)
    return Rows(
        ids[:, :-n], mask[:, :-n], ids[:, -n:], mask[:, -n:],
        None if types is None else types[:, :-n], row_images(inputs, len(ids)),
    )  # fmt: skip


def join_rows(model: Any, rows: Rows, inputs: dict[str, Any]) -> dict[str, Any]:
    """TRL's arguments for rows that have an image each: the inverse of `split_rows`.

    Args:
        model: unwrapped.
        rows: the batch.
        inputs: where the rows come from; they name what the processor says of each token.
    """
    joined = {
        "input_ids": torch.cat([rows.prompt_ids, rows.completion_ids], 1),
        "attention_mask": torch.cat([rows.prompt_mask, rows.completion_mask], 1),
        **spread_images(rows.images),
    }
    if rows.types is not None:
        name = next(name for name in TYPES if inputs.get(name) is not None)
        joined[name] = torch.cat([rows.types, torch.zeros_like(rows.completion_ids)], 1)
    width, length = rows.prompt_ids.shape[1], joined["input_ids"].shape[1]
    mark_answers(model, joined, torch.arange(length, device=rows.prompt_ids.device) >= width)
    return joined


def find_groups(rows: Rows, size: int | None = None) -> list[int]:
    """The number of each row's group: rows behind each other with one and the same prompt.

    A row without an image of its own has that of the row before.

    Args:
        rows: the batch.
        size: rows of a group, at most: a sample that comes twice is then two groups.
    """
    numbers: list[int] = []
    first = 0
    for row, image in enumerate(rows.images):
        follows = image is None and rows.images[first] is not None
        full = size is not None and row - first >= size
        if row and not follows and (full or not _same_prompt(rows, first, row)):
            first = row
        numbers.append(first)
    return numbers


def _same_prompt(rows: Rows, one: int, other: int) -> bool:
    images = rows.images[one] or {}, rows.images[other] or {}
    shapes = [{name: x.shape for name, x in image.items()} for image in images]
    if shapes[0] != shapes[1]:  # which takes no wait for a GPU
        return False
    texts = (rows.prompt_ids, rows.prompt_mask)
    return all(torch.equal(x[one], x[other]) for x in texts) and all(
        torch.equal(x, images[1][name]) for name, x in images[0].items()
    )


def fill_images(inputs: dict[str, Any]) -> dict[str, Any]:
    """A batch whose rows without an image have the one of the row before, their group's.

    Args:
        inputs: as of `split_rows`.
    """
    images = row_images(inputs, len(inputs["input_ids"]))
    if all(image is not None for image in images) or not any(images):
        return dict(inputs)
    for row, image in enumerate(images):
        images[row] = image or images[row - 1]
    return _without_images(inputs) | spread_images(images)


def take_rows(inputs: dict[str, Any], chosen: Sequence[int]) -> dict[str, Any]:
    """Some rows of a batch, each with its image.

    Args:
        inputs: as of `split_rows`.
        chosen: their indices.
    """
    filled = fill_images(inputs)
    images = row_images(filled, len(filled["input_ids"]))
    index = torch.tensor(chosen, device=filled["input_ids"].device)
    texts = {name: x.index_select(0, index) for name, x in _without_images(filled).items()}
    return texts | spread_images([images[row] for row in chosen])


def _without_images(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in inputs.items() if name in BY_TOKEN and x is not None}


def mark_answers(model: Any, inputs: dict[str, Any], answers: Tensor) -> None:
    """Give the tokens of answers the type that the model has for them; see `answer_type`.

    Args:
        model: unwrapped.
        inputs: TRL's; `token_type_ids` "b n" among them are replaced.
        answers: Bool "b n" or "n", True on the tokens of answers, which stand behind a prompt.
    """
    types = inputs.get("token_type_ids")
    if types is not None:
        prompt = types[0, : int(answers.expand_as(types)[0].int().argmax())]
        inputs["token_type_ids"] = types.masked_fill(answers, answer_type(model, prompt))


def chunk_groups(groups: Sequence[int], max_rows: int) -> list[list[list[int]]]:
    """Rows by group, in chunks of at most `max_rows` rows where groups allow; never split."""
    runs: list[list[int]] = []
    for row, group in enumerate(groups):
        if row and groups[row - 1] == group:
            runs[-1].append(row)
        else:
            runs.append([row])
    chunks: list[list[list[int]]] = []
    for run in runs:
        if chunks and sum(map(len, chunks[-1])) + len(run) <= max_rows:
            chunks[-1].append(run)
        else:
            chunks.append([run])
    return chunks
