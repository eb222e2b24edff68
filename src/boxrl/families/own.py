"""Families of one's own, from a YAML file: the fields of `Family` by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from boxrl.errors import UsageError, did_you_mean, tally
from boxrl.families.frames import Axes, Frame
from boxrl.families.record import Family, Resizing
from boxrl.families.resizing import RESIZERS
from boxrl.families.syntaxes import SYNTAXES
from boxrl.guard.files import read_own_yaml

_CHOICES = {
    "frame": get_args(Frame),
    "axes": get_args(Axes),
    "resizing": get_args(Resizing),
    "syntax": tuple(SYNTAXES),
}
_COUNTS = ("grid", "factor", "min_pixels", "max_pixels", "limit_frames", "side", "side_tokens")
_LISTS = ("model_types", "image_tokens")
_TEXTS = ("box_key", "vision_module")
_KNOWN = (
    "like",
    *(field.name for field in fields(Family) if field.name not in ("name", "runs", "cut")),
)
_STEPPED = ("grid", "bins", "shares")


def is_own(name: str) -> bool:
    """Whether a family's name is that of a YAML file."""
    return name.endswith((".yaml", ".yml"))


def read_own(path: Path, known: Mapping[str, Family]) -> Family:
    """The family that a YAML file describes: a mapping with any field of `Family` but its name.

    Args:
        path: of the file; the family's name from then on.
        known: families that `like` may name, to start from.

    Raises:
        UsageError: no such file, no mapping, or mistakes in it, all of them told at once.
    """
    content = read_stated(path)
    wrong = dict(_mistakes_of_values(content, known))
    usable = {key: value for key, value in content.items() if key not in wrong}
    family = _build(str(path), usable, known)
    absent = dict(_mistakes_of_whole(family, "frame" in content or "like" in content))
    mistakes = wrong | {key: said for key, said in absent.items() if key not in content}
    if not wrong:
        mistakes = absent
    if mistakes:
        listed = "".join(f"\n  - {key}: {said}" for key, said in mistakes.items())
        raise UsageError(f"{path}: {tally(len(mistakes), 'mistake')} in the family{listed}")
    return family


def read_stated(path: Path) -> dict[str, Any]:
    """What the file of a family states, not checked beyond being a mapping.

    Raises:
        UsageError: no such file, or no mapping.
    """
    content = read_own_yaml(path, "family")
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{path}: expected a mapping with any of: {', '.join(_KNOWN)}")
    return content


def _build(name: str, content: Mapping[str, Any], known: Mapping[str, Family]) -> Family:
    base = known.get(content.get("like", ""), Family(name, "original"))
    stated: dict[str, Any] = {
        key: tuple(v) if key in _LISTS else v for key, v in content.items() if key != "like"
    }
    return replace(base, **(stated | {"name": name}))


def _mistakes_of_values(
    content: Mapping[str, Any], known: Mapping[str, Family]
) -> Iterator[tuple[str, str]]:
    """Field and what is wrong with its value."""
    choices = _CHOICES | {"like": tuple(known)}
    for key, value in content.items():
        if key not in _KNOWN:
            yield key, f"no such field{did_you_mean(_KNOWN, key)}"
        elif key in choices and value not in choices[key]:
            near = did_you_mean(choices[key], value) if isinstance(value, str) else ""
            yield key, f"{value!r:.60} is none of {', '.join(choices[key])}{near}"
        elif key in _COUNTS and (type(value) is not int or value < 1):
            yield key, f"expected an integer above 0, got {value!r:.60}"
        elif key in _TEXTS and not (isinstance(value, str) and value):
            yield key, f"expected a text, got {value!r:.60}"
        elif key in _LISTS and not (
            isinstance(value, list) and all(isinstance(item, str) and item for item in value)
        ):
            yield key, f"expected a list of texts, got {value!r:.60}"


def _mistakes_of_whole(family: Family, has_frame: bool) -> Iterator[tuple[str, str]]:
    """Field and what is wrong with it, where each value is possible by itself."""
    if not has_frame:
        yield "frame", f"missing; one of {', '.join(_CHOICES['frame'])}, as the model's makers say"
    if family.frame in _STEPPED and not family.grid:
        yield "grid", f"missing; the frame {family.frame} needs its number of steps, such as 1000"
    if family.frame == "resized" and not family.has_limits:
        yield "resizing", f"the frame resized needs one of {', '.join(RESIZERS)}"
    needed: dict[str, tuple[str, ...]] = {
        "fill": ("factor",),
        "tiles": ("side",),
        "square": ("side",),
    }
    if family.has_limits:
        needed[family.resizing] = ("factor", "min_pixels", "max_pixels")
    for name in needed.get(family.resizing, ()):
        if not getattr(family, name):
            yield name, f"missing; resizing {family.resizing} needs it"
    if family.has_limits and family.min_pixels > family.max_pixels:
        yield "min_pixels", f"{family.min_pixels:,} is above max_pixels {family.max_pixels:,}"
