"""What a model folder says about its family: the model's type and its processor's pixel limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.errors import DataError, UsageError
from boxrl.families.cutting import CUTS
from boxrl.families.record import Family
from boxrl.guard.files import read_json_object

ADAPTER = "adapter_config.json"
"""A folder with it holds what was learned beside a base model, no model."""

EDGES = {"shortest_edge": "min_pixels", "longest_edge": "max_pixels"}
"""Names of pixel limits in a processor's `size` -> their older names beside it."""


class _Rule(NamedTuple):
    """How a class of transformers reads its limits: both of `size`, or both usual ones."""

    usual: tuple[int, int]
    takes_older: bool
    """Whether the older names win over `size`, each by itself; else they are passed over."""


_SIDES = {"patch_size": 14, "merge_size": 2}
"""What the product of is `Family.factor`, with the usual values of all of these classes."""

_GLM = _Rule((112 * 112, 15_000 * 28 * 28), takes_older=False)
_RULES = {
    "Qwen2VLImageProcessor": _Rule((56 * 56, 1280 * 28 * 28), takes_older=True),
    "Glm4vImageProcessor": _GLM,
    "Glm46VImageProcessor": _GLM,
}


def read_resizing(model_dir: Path, family: Family) -> dict[str, Any]:
    """How the folder's own image processor resizes, where it says so.

    Args:
        model_dir: the folder.
        family: whose processor it is.

    Returns:
        What is stated, by the names of `Family`'s fields.

    Raises:
        UsageError: the processor's config is damaged, or leaves images as they are where boxes
            are in pixels of the resized image.
    """
    path, image = read_processor(model_dir)
    if family.frame == "resized" and image.get("do_resize") is False:
        raise UsageError(
            f"{path}: do_resize is false, and family {family.name!r} writes pixels of the resized "
            "image; set it to true"
        )
    if family.has_limits:
        return _read_limits(path, image, family.limit_frames)
    size = image.get("size")
    size = {"height": size} if type(size) is int else _size(image, path)
    if image and (family.resizing == "unknown" or family.resizing in CUTS):
        return _read_cut(path, image | size)
    whole = read_config_json(model_dir / "processor_config.json") or {}
    named = (
        image.get("max_soft_tokens"),
        image.get("image_seq_length"),
        whole.get("image_seq_length"),
    )
    tokens = next((count for count in named if count is not None), None)
    stated = {"side": _pixels(size.get("height"), path), "side_tokens": _pixels(tokens, path)}
    return {name: value for name, value in stated.items() if value}


def _read_cut(path: Path, image: dict[str, Any]) -> dict[str, Any]:
    """The rule of a processor that cuts or pads, if it is one of a known class."""
    for name, build in CUTS.items():
        if (cut := build()).processor != _kind(image):
            continue
        usual = asdict(cut)
        stated = {key: _like(usual[key], image[key], path) for key in usual if key in image}
        return {"resizing": name, "cut": replace(cut, **stated)}
    return {"resizing": "unknown", "cut": None}


def _like(usual: Any, value: Any, path: Path) -> Any:
    """A setting of the type that it usually has."""
    if isinstance(usual, tuple) and isinstance(value, list) and len(value) == len(usual):
        return tuple(_like(each, own, path) for each, own in zip(usual, value, strict=True))
    if isinstance(usual, (bool, str)) and type(value) is type(usual):
        return value
    if isinstance(usual, float) and type(value) in (int, float) and 0 < value < 1e9:
        return float(value)
    if type(usual) is int and type(value) is int and 0 < value < 2**16:
        return value
    raise UsageError(f"{path}: {value!r:.80} is not like {usual!r}; the model folder is damaged")


def read_processor(model_dir: Path) -> tuple[Path, dict[str, Any]]:
    """The image processor's settings and the file that holds them; empty where there are none.

    Raises:
        UsageError: the file is damaged.
    """
    path = model_dir / "processor_config.json"
    image = (read_config_json(path) or {}).get("image_processor")
    if not image:
        path = model_dir / "preprocessor_config.json"
        image = read_config_json(path) or {}
    if not isinstance(image, dict):
        raise UsageError(f"{path}: {image!r:.80} is not an object; the model folder is damaged")
    return path, image


def _read_limits(path: Path, image: dict[str, Any], frames: int) -> dict[str, Any]:
    kind = _kind(image)
    if "image_processor_type" in image and kind not in _RULES and "merge_size" not in image:
        return {"resizing": "unknown"}  # of a model that only writes boxes as the family does
    size = _size(image, path)
    edges = {edge: _pixels(limit, path) for edge, limit in limiting_size(image).items()}
    if kind in _RULES and None in edges.values():
        raise UsageError(
            f"{path}: size {size!r:.80} needs shortest_edge and longest_edge, the least and the "
            "largest area of an image in pixels; the model folder is damaged"
        )
    stated = {EDGES[edge]: limit // frames for edge, limit in edges.items() if limit}
    if not _SIDES.keys().isdisjoint(image):
        patch, merge = (_pixels(image.get(name, usual), path) for name, usual in _SIDES.items())
        stated |= {"factor": patch * merge} if patch and merge else {}
    return stated


def limiting_size(image: Mapping[str, Any]) -> dict[str, Any]:
    """The pixel limits that an image processor's settings come to, under its own names for them.

    They stand in `size`, beside it under older names, or in both and differ there: after
    `from_pretrained(..., max_pixels=...)` of transformers 4, or where a hand changed one of them.

    Args:
        image: the settings, as they stand in a model folder.

    Returns:
        Values as they stand, None where nothing is said.
    """
    size = image.get("size") or {}
    newer = {edge: size.get(edge) for edge in EDGES}
    older = {edge: image.get(name) for edge, name in EDGES.items()}
    rule = _RULES.get(_kind(image))
    if rule is None:
        return {edge: older[edge] if newer[edge] is None else newer[edge] for edge in EDGES}
    stated = newer if size else dict(zip(EDGES, rule.usual, strict=True))
    if rule.takes_older:
        stated |= {edge: limit for edge, limit in older.items() if limit is not None}
    return stated


def _size(image: dict[str, Any], path: Path) -> dict[str, Any]:
    size = image.get("size") or {}
    if not isinstance(size, dict):
        raise UsageError(f"{path}: {size!r:.80} is not an object; the model folder is damaged")
    return size


def _kind(image: Mapping[str, Any]) -> str:
    """The class of an image processor, without the endings of its faster and slower twin."""
    return str(image.get("image_processor_type")).removesuffix("Fast").removesuffix("Pil")


def write_limits(model_dir: Path, size: Mapping[str, int | None]) -> None:
    """Give a model folder's image processor other pixel limits.

    Files that state the same ones stay as they are, byte for byte.

    Args:
        model_dir: the folder.
        size: of a processor, as it counts pixels; what is neither `shortest_edge` nor
            `longest_edge` is passed over.
    """
    size = {edge: size[edge] for edge in EDGES if size.get(edge)}
    for name in ("processor_config.json", "preprocessor_config.json"):
        content = read_config_json(model_dir / name) or {}
        image = content if name.startswith("pre") else content.get("image_processor")
        if not size or not image or size.items() <= limiting_size(image).items():
            continue
        stated = image.get("size") or {}
        for edge, limit in size.items():
            for place in (image, stated):
                place.pop(EDGES[edge], None)
            stated[edge] = limit
        image["size"] = stated
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (model_dir / name).write_text(text, encoding="utf-8")


def _pixels(value: Any, path: Path) -> int | None:
    """A count of pixels in an image processor's config; None where it names none."""
    if value is None:
        return None
    if type(value) in (int, float) and 1 <= value < 2**53:
        return int(value)
    raise UsageError(f"{path}: {value!r:.80} is not a pixel count; the model folder is damaged")


def read_config_json(path: Path) -> dict[str, Any] | None:
    """A JSON object of a model folder; None where there is no such file.

    Raises:
        UsageError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        return read_json_object(path)
    except DataError as error:
        raise UsageError(f"{error}; the model folder is damaged") from error
