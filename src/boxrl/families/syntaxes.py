"""How boxes are written: JSON, or the markers of one model family. Each writer beside its reader.

Coordinates here are numbers as written, in the family's own frame and order of axes; where they
lie in the image is the family's business. JSON is read by `parsing`, which also repairs it; the
readers here are single passes of one expression, linear on hostile text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import groupby

from boxrl.families import marked
from boxrl.families.syntax import Box, Coordinate, Found, Item, Syntax, without_labels

_NUMBER = r"\s*(-?\d{1,9}(?:\.\d{1,9})?)\s*"
_MARKERS = re.compile(r"<\|[a-z_]{1,24}\|>|</?(?:ref|box)>")
_QWEN2_REF, _INTERNVL_REF = "<|object_ref_start|>", "<ref>"
_COLONS = (":", "\uff1a")
"""The usual one, and that of Chinese and Japanese."""
_BETWEEN = " \t\r\n,;:[]()*`|-\u2022\u2013\u2014\u3001\uff0c\uff1b\uff1a"
_NUMBERING = re.compile(r"\A\d{1,4}[.)](?:\s+|\Z)")
_OPENED = re.compile(r"\[\s{0,9}-?\d[\d.]{0,20}(?:[\s,]|\Z)")
"""What a box in square brackets begins with, and no number alone in them."""
_FILLED = re.compile(
    r"<(?:box|\|begin_of_box\|)>(?![\s\[\]]{0,9}(?:none\.?\s?)?<(?:/box|\|end_of_box\|)>)",
    re.IGNORECASE,
)
"""Where a block begins that does not say that it holds no box."""


def _write_json_items(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    items = (
        f'{{"{key}": {_bracketed(box)}, "label": {json.dumps(label, ensure_ascii=False)}}}'
        for box, label in zip(boxes, labels, strict=True)
    )
    return f"[{', '.join(items)}]"


def write_json_boxes(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """A fenced JSON array of `{key: [...], "label": ...}`."""
    return f"```json\n{_write_json_items(boxes, labels, key)}\n```"


def write_wrapped(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """The same JSON array in an object, `{"boxes": [...]}`, as structured output gives it."""
    return f'{{"boxes": {_write_json_items(boxes, labels, key)}}}'


def write_compact(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """Any JSON family's boxes under their labels, `{"label":[[...],...]}`, without blanks.

    Of the same label the boxes stand in a row.
    """
    runs = groupby(zip(boxes, labels, strict=True), key=lambda pair: pair[1])
    names = (
        f"{json.dumps(label, ensure_ascii=False)}:"
        f"[{','.join(_bracketed(box).replace(' ', '') for box, _ in run)}]"
        for label, run in runs
    )
    return f"{{{','.join(names)}}}"


def write_scored(
    boxes: Sequence[Box], labels: Sequence[str], key: str, scores: Sequence[Coordinate]
) -> str:
    """Any JSON family's boxes, fenced, each with how sure the answer is of it as `score`."""
    items = (
        f'{{"{key}": {_bracketed(box)}, "label": {json.dumps(label, ensure_ascii=False)}, '
        f'"score": {score}}}'
        for box, label, score in zip(boxes, labels, scores, strict=True)
    )
    return f"```json\n[{', '.join(items)}]\n```"


def write_glm(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """GLM-V: the same JSON array between its box markers."""
    return f"<|begin_of_box|>{_write_json_items(boxes, labels, key)}<|end_of_box|>"


_BARE_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
_POINTS_BOX = re.compile(rf"\({_NUMBER},{_NUMBER}\)\s*,\s*\({_NUMBER},{_NUMBER}\)")
_POINT = r"\(\s*-?[\d.]+\s*,\s*-?[\d.]+\s*\)"
_OUTLINE = re.compile(rf"{_POINT}(?:\s*,\s*{_POINT}){{2,}}")
"""Corners of a quadrilateral or an outline: more than two points in a row are no box."""
_GLM_BOX = re.compile(
    rf"(?:[\[(<{{]|(?<=>)){_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}(?:[\])>}}]|(?=<))"
)
"""Its makers say that the style of brackets varies; the markers alone may be them."""
_EMPTY_BLOCK = re.compile(
    r"<\|begin_of_box\|>[\s\[\]]*(?:none\.?\s*)?<\|end_of_box\|>", re.IGNORECASE
)
_GLM_BLOCK = re.compile(r"<\|begin_of_box\|>(?:[^<]|<(?!\|))*(?:<\|end_of_box\|>)?")


def read_glm(text: str) -> Found:
    """GLM-V's bare lists of boxes or pairs of points; JSON objects are not for it.

    Words with a colon right before a box name it, other words do not. Models say the same block
    several times: it counts once.
    """
    if marked.JSON_OBJECT.search(text):
        return Found([], 0)
    text, outlines = _OUTLINE.subn("", _without_repeats(text))
    text = _without_boxes_beside(text)
    box = _GLM_BOX if "<|begin_of_box|>" in text else _BARE_BOX
    box = box if box.search(text) else _POINTS_BOX
    items: list[Item] = []
    label, position, bracketed = "", 0, 0
    for match in box.finditer(text):
        before = _MARKERS.sub("", text[position : match.start()]).rstrip(" \t\r\n[(<{*`")
        if before.strip(_BETWEEN):
            label = _nearest(before) if before.endswith(_COLONS) else ""
        items.append((_numbers(match), label))
        bracketed += match[0].startswith("[")
        position = match.end()
    broken = outlines + _unread(text, items, bracketed)
    says_none = not (items or broken) and _EMPTY_BLOCK.search(text) is not None
    return Found(items, broken, none=says_none)


def _unread(text: str, items: Sequence[Item], bracketed: int) -> int:
    """Boxes beside those that were read; 1 where it is the end of a block alone that is cut.

    Args:
        text: GLM-V's or InternVL's.
        items: that were read.
        bracketed: how many of them stand in square brackets.
    """
    blocks = list(_FILLED.finditer(text))
    cut = bool(blocks) and "<" not in text[blocks[-1].end() :]
    return max(len(_OPENED.findall(text)) - bracketed, len(blocks) - len(items), int(cut))


def _without_boxes_beside(text: str) -> str:
    """Of boxes in blocks and beside them those in blocks alone: the rest is talk."""
    blocks = list(_GLM_BLOCK.finditer(text))
    if not any(_GLM_BOX.search(block[0]) for block in blocks):
        return text
    ends = [0, *(block.end() for block in blocks)]
    beside = [text[end : block.start()] for end, block in zip(ends, blocks, strict=False)]
    beside.append(text[ends[-1] :])
    inside = [*(block[0] for block in blocks), ""]
    pairs = zip(beside, inside, strict=True)
    return "".join(_BARE_BOX.sub("", words) + block for words, block in pairs)


def _without_repeats(text: str) -> str:
    seen: set[str] = set()

    def first_time(block: re.Match[str]) -> str:
        known = block[0] in seen
        seen.add(block[0])
        return "" if known else block[0]

    return _GLM_BLOCK.sub(first_time, text)


def write_qwen2(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """Qwen2-VL: reference and box markers, `(x1,y1),(x2,y2)`."""
    return "".join(
        f"<|object_ref_start|>{label}<|object_ref_end|>"
        f"<|box_start|>({x1},{y1}),({x2},{y2})<|box_end|>"
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True)
    )


def read_qwen2(text: str) -> Found:
    """Qwen2-VL's pairs of points, with its markers or without them, as decoders often drop them."""
    if "<|box_start|>" not in text and marked.JSON_OBJECT.search(text):
        return Found([], 0)
    text, outlines = _OUTLINE.subn("", text)
    items = _labels_before(text, _POINTS_BOX, _QWEN2_REF, "<|object_ref_end|>")
    return Found(items, max(outlines, text.count("<|box_start|>") - len(items)))


def write_internvl(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """InternVL: `<ref>label</ref><box>[[x1, y1, x2, y2], ...]</box>`, one per run of a label."""
    pairs = groupby(zip(boxes, labels, strict=True), key=lambda pair: pair[1])
    return "".join(
        f"<ref>{label}</ref><box>[{', '.join(_bracketed(box) for box, _ in group)}]</box>"
        for label, group in pairs
    )


def _bracketed(box: Box) -> str:
    return f"[{', '.join(map(str, box))}]"


def read_internvl(text: str) -> Found:
    """InternVL's lists of boxes, with its markers or without them."""
    if marked.JSON_OBJECT.search(text):
        return Found([], 0)
    items = _labels_before(text, _BARE_BOX, _INTERNVL_REF, "</ref>")
    return Found(items, _unread(text, items, len(items)))


def _labels_before(text: str, box: re.Pattern[str], opening: str, closing: str) -> list[Item]:
    """Boxes with the text nearest before each: words, or a marked label.

    Words behind a marked label tell where it is, unless a colon or a line's end parts them from
    it. A box with nothing before it belongs to the label of the box before. Where nothing stands
    before the first, and words right behind every box, they name it and not the next: of which
    words is not to be told, so no box has a label.
    """
    items: list[Item] = []
    label, position = "", 0
    matches = list(box.finditer(text))
    for match in matches:
        before = text[position : match.start()]
        _, _, marked = before.rpartition(opening)
        marked, closed, behind = marked.partition(closing)
        if opening not in before:
            label = _nearest(before) or label
        else:
            words = behind.strip(_BETWEEN)
            parted = _nearest(words) if _last_end(words) else ""
            label = parted or marked.strip() if closed else _nearest(marked)
        items.append((_numbers(match), label))
        position = match.end()
    ends = [*(match.start() for match in matches[1:]), len(text)]
    places = zip(matches, ends, strict=False)
    followed = (_begins_with_words(text[match.end() : end]) for match, end in places)
    if items and not items[0][1] and all(followed):
        return without_labels(items)
    return items


def _begins_with_words(text: str) -> bool:
    return _MARKERS.sub("", text.partition("\n")[0]).strip(_BETWEEN + ".") != ""


def _nearest(text: str) -> str:
    """The words right before a box: without markers, from the last colon or line end on."""
    words = _MARKERS.sub("", text).strip(_BETWEEN)
    return _NUMBERING.sub("", words[_last_end(words) :].strip(_BETWEEN)).strip(_BETWEEN)


def _last_end(words: str) -> int:
    """Where the last colon or line end in words stops; 0 where they hold none."""
    return max(map(words.rfind, (*_COLONS, "\n"))) + 1


def write_loc(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """PaliGemma: four location tokens, then the label; objects parted by ` ; `."""
    return " ; ".join(
        "".join(_loc(value) for value in box) + f" {label}"
        for box, label in zip(boxes, labels, strict=True)
    )


def _loc(value: Coordinate) -> str:
    return f"<loc{value:04d}>" if isinstance(value, int) else f"<loc_{value}>"


_BESIDE_LABEL = re.compile(
    r"<seg\d{3}>|<(?:eos|bos|pad|end_of_turn)>|</?s>|<\|(?:im_end|endoftext)\|>"
)
"""Mask tokens of the prefix `segment`, between a box and its label, and what ends or fills up."""
_LOC_CUT = re.compile(r"<(?:loc.*|lo?)?\Z", re.DOTALL)
"""Behind a label: location tokens that are no whole box, such as where the end cuts the next."""
_LOC_BOX = re.compile(r"<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>")


def read_loc(text: str) -> Found:
    """PaliGemma's groups of four location tokens, each with the label behind it.

    Nothing at all is no box: so it says that nothing is there.
    """
    text = _BESIDE_LABEL.sub("", text)
    matches = list(_LOC_BOX.finditer(text))
    ends = [match.start() for match in matches] + [len(text)]
    items = []
    for match, end in zip(matches, ends[1:], strict=True):
        label = _LOC_CUT.sub("", text[match.end() : end]).strip()
        items.append((_numbers(match), label.removesuffix(";").rstrip()))
    if items and not items[-1][1] and text[: matches[0].start()].strip():
        items = without_labels(items)  # they stand before their boxes; each named the one before
    unread = text.count("<loc") - 4 * len(matches)
    return Found(items, -(-unread // 4), none=not text.strip())


def _numbers(match: re.Match[str]) -> tuple[float, float, float, float]:
    a, b, c, d = (float(group) for group in match.groups())
    return a, b, c, d


_CORNERS = frozenset({"x1", "y1", "x2", "y2"})

SYNTAXES: dict[str, Syntax] = {
    "json": Syntax(write_json_boxes, None, "in JSON format", is_json=True),
    "glm": Syntax(write_glm, read_glm, "in JSON format", is_json=True, names_boxes=False),
    "qwen2": Syntax(write_qwen2, read_qwen2, "as pairs of points", naming=_QWEN2_REF),
    "internvl": Syntax(
        write_internvl,
        read_internvl,
        "as lists of boxes",
        naming=_INTERNVL_REF,
        tags=frozenset({"ref", "box"}),
    ),
    "loc": Syntax(write_loc, read_loc, "as location tokens"),
    "wrapped": Syntax(write_wrapped, None, "in JSON format", is_json=True),
    "minicpm": Syntax(
        marked.write_minicpm, marked.read_minicpm, "as boxes", tags=frozenset({"ref", "box"})
    ),
    "deepseek": Syntax(marked.write_deepseek, marked.read_deepseek, "as lists of boxes"),
    "rex": Syntax(marked.write_rex, marked.read_rex, "as location tokens", tags=_CORNERS),
    "locate": Syntax(
        marked.write_locate,
        marked.read_locate,
        "as location tokens",
        tags=frozenset({"ref", "box", "c"}) | _CORNERS,
    ),
    "florence": Syntax(
        marked.write_florence,
        marked.read_florence,
        "as location tokens",
        tags=frozenset({"OPEN_VOCABULARY_DETECTION", "CAPTION_TO_PHRASE_GROUNDING"}),
    ),
    "molmo": Syntax(write_json_boxes, marked.read_molmo, "in JSON format", is_json=True),
}
"""Every way of writing boxes, by the name that a family gives."""
