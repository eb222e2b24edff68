"""Boxes written as JSON: objects and arrays, fenced or not, one behind the other.

Objects with a box are items, arrays hold them. What stands side by side, with blanks, commas,
fences and line ends between, is one sequence and adds up. Where words stand between, a later
array adds the labels that it names anew and replaces the boxes of those that it names again: an
array per class adds up, a revision replaces, a repetition counts once. Objects outside of arrays
always add up, and brackets without objects never displace items. An object that holds lists of
boxes under labels (`{"cat": [[...], ...]}`) counts as an array of their items. A label around
items (`{"label": "cat", "boxes": [...]}`) is that of those that have none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec

from boxrl.families.syntax import Item
from boxrl.parsing.answers import says_none
from boxrl.types import fold_label

Box = tuple[float, float, float, float]
"""Four numbers as written."""


OTHER_LABEL_KEYS = ("class", "name", "category")
"""Keys under which models write labels, too."""

NAME_KEYS = frozenset(
    {"label", "labels", "object", *OTHER_LABEL_KEYS}
    | {f"{kind}_{what}" for kind in ("class", "category", "object") for what in ("name", "label")}
)
"""Keys, in any case, under which a label stands: it is the box's, whatever was asked for."""

MAX_FAILED_DECODES = 16
"""Broken values read in one answer before the rest is given up; bounds hostile input."""

MAX_VALUES = 4096
"""Values side by side in one answer before it counts as unreadable; bounds hostile input too."""

MAX_COORDINATE = 1e9
"""Coordinates beyond it are no pixels; the bound keeps areas finite."""

_CUT = -1
"""End of a JSON value that the end of the text cuts off."""


class KeyTwice(ValueError):
    """An object in which a key stands twice: json would keep one value, and lose a box so."""


def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values.

    Raises:
        KeyTwice: see there.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise KeyTwice
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=keys_once,
    parse_constant=lambda _: None,  # NaN and Infinity are no numbers
)
_NUMBERS = {int, float}  # bool, a subclass of int, is none
_OPENING = re.compile(r"\[(?=[\s\[\]{\"\d\-tfnNI]|\Z)|\{(?=\s*[\"'])")
_WORD = re.compile(r"[^\W\d_]")
"""A letter: numbers alone, as of a list, are no words."""
_PROSE = re.compile(r"\[\s{0,9}[^\W\d_]")
_HOLDER = re.compile(
    r"\A[\W\d]*\Z|box|object|detect|result|item|list|annotation|prediction|instance|target|entit"
    r"|region|locat|position|coordinate|image|answer|output|response|data"
)
_KEY_ENDS = " \t\r\n:\"'"
_FENCE = re.compile(r"```(?:json|\w{1,16}(?=[ \t]{0,9}\n))?", re.IGNORECASE)


class Items(NamedTuple):
    """Items in order of emission.

    Attributes:
        boxes: as written.
        labels: one each.
    """

    boxes: list[Box]
    labels: list[str]


@dataclass(slots=True)
class Rest:
    """What an answer holds beside its items.

    Attributes:
        unusable: objects that hold no usable box or label, and values that stand among them.
        passed: brackets without objects that were passed over.
        whole: whether nothing was cut or broken.
        says_nothing: whether an empty array stands in it.
        reason: why the first of them is unusable; "" where all are usable.
    """

    unusable: int = 0
    passed: int = 0
    whole: bool = True
    says_nothing: bool = False
    reason: str = ""

    @property
    def dropped(self) -> int:
        """How many values were passed over."""
        return self.unusable + self.passed

    def refuse(self, reason: str) -> None:
        """Count an unusable object."""
        self.unusable += 1
        self.reason = self.reason or reason


def read_array(answer: str, box_key: str, label: str | None) -> Items | None:
    """The items of an answer that is one array of whole items and nothing else, as most are.

    Args:
        answer: the text.
        box_key: key of an item's box.
        label: of items without one, which `read_items` gives them; None where it is not known.

    Returns:
        None where the answer is anything else, which `read_items` then reads.
    """
    body = answer.strip().removeprefix("```").removeprefix("json").removesuffix("```").strip()
    if not (body.startswith("[") and body.endswith("]")):
        return None
    try:
        rows = _array_decoder(box_key)(body)
    except (ValueError, RecursionError):
        return None
    labels = [row.label for row in rows]
    if not rows or None in labels or (label is not None and "" in labels):
        return None
    if body.count(f'"{box_key}"') > len(rows) or body.count('"label"') > len(rows):
        return None  # a key may stand twice
    return Items([row.box for row in rows], labels)


@cache
def _array_decoder(box_key: str) -> Any:
    """Typed decoding is several times as fast as json, and as strict."""
    number = Annotated[float, msgspec.Meta(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
    fields: list[Any] = [
        ("box", tuple[number, number, number, number]),
        ("label", str | None, None),
    ]
    row = msgspec.defstruct("Row", fields, rename={"box": box_key}, gc=False)
    return msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]


def read_items(
    answer: str, box_key: str, label: str | None, bare: bool, names: Sequence[str] | None = None
) -> tuple[Items, Rest]:
    """Every item of an answer, whatever surrounds it.

    A cut or broken array is read as far as its items are complete JSON objects.

    Args:
        answer: the text.
        box_key: key of an item's box.
        label: of items without one; None where it is not known.
        bare: whether four numbers in brackets are a box, of that label.
        names: labels that were asked for, under which boxes may stand; none at all where they are
            not known. None reads no boxes under labels.
    """
    rest = Rest()
    merged = _Merged()
    known = None if names is None else frozenset(map(fold_label, names))
    end_of_last = failures = values = 0
    position, objects_only, inside_broken, in_object = 0, False, False, False
    while failures < MAX_FAILED_DECODES:
        opening = _OPENING.search(answer, position)
        if opening is None:
            break
        start = opening.start()
        is_array = answer[start] == "["
        if is_array and objects_only:
            position = start + 1
            continue
        between = answer[end_of_last:start]
        in_object = _stays_open(between, in_object)
        if _WORD.search(_FENCE.sub(" ", between)):
            merged.next_sequence()
            inside_broken = False
        value, end, broken_at = _decode(answer, start)
        if value is None:
            failures += 1
            rest.reason = rest.reason or "broken JSON"
            if is_array:
                rest.whole = rest.whole and _PROSE.match(answer, start) is not None
                position, inside_broken = start + 1, True
                objects_only = objects_only or (end == _CUT and not bare)
            else:
                rest.refuse("broken JSON")
                rest.whole, in_object = False, True
                position = start + 1 if end == _CUT else max(broken_at, start + 1)
                objects_only = objects_only or end == _CUT
            end_of_last = position
            continue
        values += 1
        if values > MAX_VALUES:
            return Items([], []), Rest(whole=False, reason="too many brackets")
        other_key = in_object and _ends_with_other_key(between, box_key)
        items = list(_items(value, box_key, label, bare and not other_key, rest, known))
        holds_array = is_array or (box_key not in value and _any_list(value))
        merged.add(items, in_array=holds_array or inside_broken)
        position = end_of_last = end
    if not rest.reason:
        rest.reason = "brackets without boxes" if rest.passed else "no JSON"
    return merged.rows(), rest


def _stays_open(between: str, before: bool) -> bool:
    """Whether a value stands in an object that is no JSON, by what is between it and the last."""
    opened, closed = between.rfind("{"), between.rfind("}")
    return opened > closed or (before and closed < 0)


def _ends_with_other_key(between: str, box_key: str) -> bool:
    """Whether four numbers behind it are what another key says, such as a corner and a size."""
    key = between.rstrip()
    return key.endswith(":") and not key.rstrip(_KEY_ENDS).endswith(box_key)


def _decode(text: str, start: int) -> tuple[Any, int, int]:
    """(value, its end, -) of the JSON that starts there.

    (None, `_CUT`, -) where the end of the text cuts it, (None, start, where) where it is broken.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
        return value, end, end
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text) or error.msg.startswith("Unterminated string")
        return None, _CUT if cut else start, error.pos
    except (ValueError, RecursionError):
        return None, start, start


def _items(
    value: Any,
    box_key: str,
    label: str | None,
    bare: bool,
    rest: Rest,
    known: frozenset[str] | None,
) -> Iterator[Item]:
    """Items of a decoded value in order; what is none of them is counted in `rest`."""
    # A stack: nesting is the text's own and may be deep. What grounding asks for names all of it.
    todo = [_Part(value, label, bare)]
    while todo:
        value, name, named = todo.pop()
        if isinstance(value, dict):
            boxes = _named_boxes(value, box_key, known)
            inner = [] if boxes else _inner(value, box_key, name, named, known)
            todo += reversed(inner)
            yield from boxes
            if box_key in value or not (boxes or inner):
                free = bare or not _other_label(value, name)
                yield from _item(value, box_key, name if free else None, rest)
        elif value == []:
            rest.says_nothing = True
        elif not isinstance(value, list):
            rest.refuse("values without a box")
        elif bare and name is not None and _is_box(value):
            yield tuple(value), name
        elif len(value) > 2 and _NUMBERS.issuperset(map(type, value)):
            rest.refuse("numbers without an object")
        elif any(isinstance(inner, (dict, list)) for inner in value):
            todo += [_Part(inner, name, named) for inner in reversed(value)]
        else:
            rest.passed += bool(value)


class _Part(NamedTuple):
    """A value inside an answer.

    Attributes:
        value: as decoded.
        name: label of the items in it that have none.
        named: whether something beside them or around them says so, and not the question alone.
    """

    value: Any
    name: str | None
    named: bool


def _inner(
    value: dict[str, Any],
    box_key: str,
    name: str | None,
    named: bool,
    known: frozenset[str] | None,
) -> list[_Part]:
    """What an object holds that may hold items, each with the label of those that have none.

    That is a label beside them, or the key that they stand under where one of the keys was asked
    for, or where it is no word for what holds them. In an item they are parts, whose labels are
    their own.
    """
    if box_key in value:
        return [
            _Part(inner, None, True) for inner in value.values() if _holds_boxes(inner, box_key)
        ]
    if isinstance(own := value.get("label"), str) and own:
        name, named = own, True
    by_label = known is not None and not known.isdisjoint(map(fold_label, value))
    return [
        _Part(inner, key, True)
        if by_label or not (named or name is None or _holds(key, name))
        else _Part(inner, name, named)
        for key, inner in value.items()
        if _holds_objects(inner)
    ]


def _holds(key: str, asked: str) -> bool:
    """Whether a key is a word for what holds boxes (`objects`), or has the label asked for in it.

    >>> _holds("detected_items", "cat"), _holds("cats_found", "cat"), _holds("dog", "cat")
    (True, True, False)
    """
    words = fold_label(key.replace("_", " "))
    return _HOLDER.search(words) is not None or f" {fold_label(asked)}" in f" {words}"


def _named_boxes(value: dict[str, Any], box_key: str, known: frozenset[str] | None) -> list[Item]:
    """The items of `{"label": [[...], ...], ...}`; none where a value is no list of boxes.

    One of its keys has to be a label that was asked for, where that is known.
    """
    if known is None or box_key in value:
        return []
    said = {name: boxes for name, boxes in value.items() if not _is_none(boxes)}
    if not all(isinstance(boxes, list) and all(map(_is_box, boxes)) for boxes in said.values()):
        return []
    if known and known.isdisjoint(map(fold_label, value)):
        return []
    return [((x1, y1, x2, y2), name) for name, boxes in said.items() for x1, y1, x2, y2 in boxes]


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and says_none(value))


def _holds_boxes(value: Any, box_key: str) -> bool:
    """Whether it is an item or a list with one."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(inner, dict) and box_key in inner for inner in values)


def _any_list(value: dict[str, Any]) -> bool:
    """Whether the object holds a list of anything, such as a box under another key."""
    return any(isinstance(inner, list) and inner for inner in value.values())


def _holds_objects(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(inner, dict) for inner in value)
    )


def _item(value: dict[str, Any], box_key: str, label: str | None, rest: Rest) -> Iterator[Item]:
    """The item that an object is; where it is none, `rest` counts it."""
    if value.get(box_key, []) == []:
        named = not NAME_KEYS.isdisjoint(map(str.casefold, value))
        if [] in value.values() and not _any_list(value) and not (named and box_key in value):
            rest.says_nothing = True  # {"boxes": []}; a label beside an empty box names something
        else:
            rest.refuse(f"no {box_key}")
        return
    if not _is_box(box := value[box_key]):
        rest.refuse(f"{box_key} is not four finite numbers")
        return
    name = value.get("label")
    if name is None or (name == "" and label is not None):
        name = label
    if not isinstance(name, str):
        rest.refuse("no label")
        return
    x1, y1, x2, y2 = box
    yield (x1, y1, x2, y2), name


def _other_label(value: dict[str, Any], label: str | None) -> bool:
    """Whether an object names another label than the one asked for, under another key."""
    written = [item for key, item in value.items() if key.casefold() in NAME_KEYS]
    texts = [text for item in written for text in (item if isinstance(item, list) else [item])]
    names = {fold_label(text) for text in texts if isinstance(text, str) and text}
    return label is not None and bool(names) and fold_label(label) not in names


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and _NUMBERS.issuperset(map(type, value))
        and min(value) >= -MAX_COORDINATE
        and max(value) <= MAX_COORDINATE
    )


class _Merged:
    """Items of all sequences; a later array's labels replace those of earlier sequences."""

    def __init__(self) -> None:
        self._sequence = 0
        self._items: list[tuple[int, Item]] = []
        self._renamed: dict[str, int] = {}  # label -> the last sequence whose arrays name it

    def next_sequence(self) -> None:
        self._sequence += 1

    def add(self, items: list[Item], in_array: bool) -> None:
        self._items += [(self._sequence, item) for item in items]
        if in_array:
            for _, label in items:
                self._renamed[fold_label(label)] = self._sequence

    def rows(self) -> Items:
        kept = [
            item
            for sequence, item in self._items
            if sequence >= self._renamed.get(fold_label(item[1]), 0)
        ]
        return Items([box for box, _ in kept], [label for _, label in kept])
