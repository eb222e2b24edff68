"""Answers that are nearly JSON: each object is rewritten as the strict reader wants it.

For evaluation alone; rewards read strictly.

json-repair mends quotes, commas and the like. It takes quadratic time on hostile text, so that it
only ever sees one short object at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import json_repair

from boxrl.parsing.json_items import NAME_KEYS, OTHER_LABEL_KEYS, KeyTwice, keys_once
from boxrl.parsing.scores import SCORES

MAX_OBJECT = 512
"""Characters of an object that is mended; a box and a label take a hundred."""

BOX_KEYS = ("bbox_2d", "box_2d", "bbox", "box", "position")
LABEL_KEYS = ("label", *OTHER_LABEL_KEYS)

_DECODER = json.JSONDecoder()
_KEY = re.compile(r"[{,]\s*[\"']?(\w{1,32})[\"']?\s*:")
_THOUSANDS = re.compile(r"\d,0\d\d(?!\d)")
"""A comma inside of a number, such as 1,000: json-repair would make two of it."""
_OBJECT = re.compile(r"\{[^{}]{1,%d}\}" % MAX_OBJECT)  # noqa: UP031 the braces are the pattern's


def mend_objects(answer: str, box_key: str) -> str:
    """The answer with every flat object that holds a box in strict JSON.

    Args:
        answer: any text; takes time in proportion to its length.
        box_key: the key under which the strict reader expects boxes; four numbers under another
            of `BOX_KEYS` are taken to be in the family's own order.
    """
    return _OBJECT.sub(lambda found: _mended(found, box_key), answer)


def _mended(found: re.Match[str], box_key: str) -> str:
    text = found[0]
    try:
        value = json.loads(text, object_pairs_hook=keys_once)
    except KeyTwice:
        return text
    except ValueError:
        if _is_json_beyond(found) or _THOUSANDS.search(text):
            return text
        keys = [key.casefold() for key in _KEY.findall(text)]
        if any(keys.count(key) > 1 for key in (*BOX_KEYS, *LABEL_KEYS)):
            return text  # json-repair would keep the last, and lose a box so
        value = json_repair.loads(text, skip_json_loads=True)
    if not isinstance(value, dict):
        return text
    by_key = {str(key).casefold(): item for key, item in value.items()}
    label = next((by_key[key] for key in LABEL_KEYS if isinstance(by_key.get(key), str)), None)
    written = next((by_key[key] for key in (box_key, *BOX_KEYS) if key in by_key), None)
    boxes = list(_boxes(written))
    if not boxes:
        return text
    if label is not None:
        named = {"label": _unquoted(label, text)}
    else:
        named = {key: by_key[key] for key in NAME_KEYS if key in by_key}  # for the strict reader
    named |= {key: by_key[key] for key in SCORES if key in by_key}
    return ", ".join(json.dumps({box_key: box} | named, ensure_ascii=False) for box in boxes)


def _is_json_beyond(found: re.Match[str]) -> bool:
    """Whether it is the beginning of an object in JSON, with a brace inside of a text."""
    try:
        _DECODER.raw_decode(found.string[found.start() : found.start() + 2 * MAX_OBJECT])
    except (ValueError, RecursionError):
        return False
    return True


def _unquoted(label: str, text: str) -> str:
    """A label without the quote that ends it: json-repair keeps it where another stands inside."""
    quote = label[-1:]
    kept = quote in ("'", '"') and quote in label[:-1] and label in text
    return label[:-1] if kept and label + quote not in text else label


def _boxes(value: Any) -> Iterator[list[float]]:
    """The boxes in a value: four numbers, two points, or a list of such."""
    if not isinstance(value, list):
        return
    numbers = [_number(item) for item in value]
    if None not in numbers:
        if len(numbers) == 4:
            yield numbers  # type: ignore[misc]
        return
    flat = [number for item in value if isinstance(item, list) for number in map(_number, item)]
    if all(isinstance(item, list) and len(item) == 2 for item in value) and len(flat) == 4:
        if None not in flat:
            yield flat  # type: ignore[misc]
        return
    for item in value:
        if isinstance(item, list) and len(item) == 4:
            yield from _boxes(item)


def _number(value: Any) -> float | None:
    """A finite number, also where it is written as text."""
    if isinstance(value, str) and len(value) <= 32:
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) not in (int, float) or not -1e300 < value < 1e300:
        return None
    return value  # type: ignore[no-any-return]
