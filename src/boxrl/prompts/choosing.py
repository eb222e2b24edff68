"""The prompt that a user names: a packaged one, placed elsewhere or not, or a file of one's own."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from string import Formatter
from typing import cast

from boxrl.errors import UsageError, did_you_mean
from boxrl.guard.files import read_own_yaml
from boxrl.prompts.named import PROMPTS, Placement, Prompt

_PLACEHOLDERS = {
    "detect": {"labels", "label_list", "output"},
    "ground": {"expression", "output"},
    "region": {"region", "labels"},
    "label": {"label"},
}

_NEEDED = {"ground": {"expression"}, "label": {"label"}}
"""Without them no two questions differ; `detect` may ask in words for the one thing there is."""


def build_prompt(name: str) -> Prompt:
    """The prompt of that name, or of that YAML file.

    Args:
        name: key of PROMPTS, followed by `@PLACEMENT` where it is to stand elsewhere than behind
            the problem (`enhanced@system`); or the path of a .yaml file, see `read_prompt`.

    Raises:
        UsageError: unknown name or placement; the message lists the known ones.
    """
    if name.endswith((".yaml", ".yml")):
        return read_prompt(Path(name))
    key, _, placement = name.partition("@")
    if key not in PROMPTS:
        raise UsageError(
            f"unknown prompt {key!r}; prompts: {', '.join(PROMPTS)}, or a .yaml file"
            f"{did_you_mean(PROMPTS, key)}"
        )
    if not placement:
        return PROMPTS[key]
    return replace(PROMPTS[key], name=name, placement=cast(Placement, placement))


def read_prompt(path: Path) -> Prompt:
    """A prompt of one's own: a YAML mapping with any field of `Prompt` but its name.

    Raises:
        UsageError: no such file, no mapping, an unknown field or placeholder, or a text that leaves
            out what is asked for.
    """
    content = read_own_yaml(path, "prompt")
    known = [field.name for field in fields(Prompt) if field.name != "name"]
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise UsageError(f"{path}: expected a mapping of texts with any of: {', '.join(known)}")
    for key, text in content.items():
        if key not in known:
            raise UsageError(f"{path}: unknown field {key!r}; fields: {', '.join(known)}")
        if key in _PLACEHOLDERS:
            _check_placeholders(text, key, f"{path}: {key}")
    return Prompt(**{"instruction": "", **content, "name": str(path)})


def _check_placeholders(text: str, key: str, where: str) -> None:
    known, needed = _PLACEHOLDERS[key], _NEEDED.get(key, set())
    try:
        used = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise UsageError(f"{where}: {error}; write {{{{ and }}}} for braces") from error
    unknown = sorted(used - known)
    if unknown:
        names = ", ".join(f"{{{name}}}" for name in sorted(known))
        raise UsageError(f"{where}: unknown placeholder {{{unknown[0]}}}; known: {names}")
    for name in needed - used:
        raise UsageError(f"{where}: has no {{{name}}}, so that every question would be the same")
