"""The forms of rows that trainers of vision-language models read, as one: images and turns.

Source: ms-swift 4.6, docs "Custom dataset"; LLaMA-Factory, data/README.md; QwenLM/Qwen3-VL,
qwen-vl-finetune; Roboflow's and maestro's PaliGemma and Florence-2 exports; InternVL; Visual-RFT;
EasyR1. What names images and turns differs; all say who asked what and what the answer is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from boxrl.errors import DataError, UsageError
from boxrl.families import Family

Row = dict[str, Any]

IMAGES = ("images", "image", "image_path", "image_paths")
PLACES = ("image", "image_url", "url", "path")
"""Keys of an image's place in a part of a message."""

TURNS = ("messages", "conversations", "conversation")
PAIRS = (
    ("prefix", "suffix"),
    ("problem", "solution"),
    ("problem", "answer"),
    ("query", "response"),
)
"""Keys of a row of one question and its answer."""

SETTINGS = ("min_pixels", "max_pixels", "resized_width", "resized_height")
"""How Qwen's rows say at which size the model sees an image."""

USERS, ASSISTANTS = ("user", "human"), ("assistant", "gpt", "model")

TOOLS = ("tool", "tool_call", "tool_response", "function", "function_call", "observation")
"""Who else speaks where a model may call tools."""

TOOL_SAID = "<tool_response>"
"""What stands in a question behind which a tool was called, as in Qwen's rows."""

UNWANTED = ("label", "kto_tag")
"""What ms-swift and LLaMA-Factory call false of answers that KTO trains away from."""


_VIDEO = "a row of a video; samples have one image"


class Dialogue(NamedTuple):
    """A row.

    Attributes:
        key: its own id as text; "" where it has none.
        images: their paths, as they are written.
        turns: (question, answer), in order.
        words: of the system and of all questions.
        objects: boxes beside the text, as ms-swift has them; None where there are none.
    """

    key: str
    images: list[str]
    turns: list[tuple[str, str]]
    words: str
    objects: Any = None


def read_dialogue(row: Row, where: str) -> Dialogue:
    """The row in one form.

    Args:
        row: of any of the forms.
        where: start of the error message.

    Raises:
        DataError: it is of none, has a video, or says that its answer is wrong.
    """
    for flag in UNWANTED:
        if row.get(flag) is False:
            raise DataError(f"{where}: {flag} is false, so that the answer is one not to give")
    if row.get("videos") or row.get("video"):
        raise DataError(f"{where}: {_VIDEO}")
    objects = row.get("objects")
    if isinstance(objects, str):
        try:
            objects = json.loads(objects)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: objects {objects!r:.80} are no JSON") from error
    images = [*_images(row, where)]
    turns = [*_turns(row, images, where)]
    if not turns:
        raise DataError(f"{where}: no question with an answer")
    questions = "".join(question for question, _ in turns)
    if "<video>" in questions:
        raise DataError(f"{where}: {_VIDEO}")
    if images and questions.count("<image>") > len(images):
        raise DataError(
            f"{where}: {questions.count('<image>')} places of images, and {len(images)} in the row"
        )
    words = "\n".join([*_system(row, where), *(question for question, _ in turns)])
    key = row.get("id")
    return Dialogue("" if key is None else str(key), images, turns, words, objects)


def image_settings(row: Row) -> dict[str, Any]:
    """What a row says of the size at which the model sees its image, by Qwen's names.

    Args:
        row: that was read.
    """
    turns = (row.get(key) for key in TURNS)
    listed = [message for said in turns if isinstance(said, list) for message in said]
    contents = [message.get("content") for message in listed if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    owners = [row, *(part for part in parts if isinstance(part, dict))]
    return {name: owner[name] for owner in owners for name in SETTINGS if owner.get(name)}


def shown_wh(
    settings: dict[str, Any], family: Family, size_wh: tuple[int, int], where: str
) -> tuple[Any, Any]:
    """(width, height) at which a row shows its image to the model.

    Args:
        settings: of `image_settings`.
        family: whose limits hold where the row has none.
        size_wh: (width, height) of the image in pixels.
        where: start of the error message.

    Raises:
        DataError: limits that are none.
    """
    sides = settings.get("resized_width"), settings.get("resized_height")
    if all(sides):
        return sides
    try:
        own = family.with_limits(settings.get("min_pixels"), settings.get("max_pixels"))
    except UsageError as error:
        raise DataError(f"{where}: {error}") from error
    return own.input_size_wh(size_wh)


def _images(row: Row, where: str) -> Iterator[str]:
    found: Any = next((row[key] for key in IMAGES if row.get(key)), [])
    for image in found if isinstance(found, list) else [found]:
        yield _path(image, where)


def _path(image: Any, where: str) -> str:
    """A path, alone or in an object beside its bytes."""
    path = (image.get("path") or image.get("url")) if isinstance(image, dict) else image
    if not isinstance(path, str) or not path.strip():
        raise DataError(f"{where}: image {image!r:.80}; expected a path")
    return path.removeprefix("file://")


def _turns(row: Row, images: list[str], where: str) -> Iterator[tuple[str, str]]:
    """(question, answer) of every turn; images that stand inside of messages are added."""
    messages = next((row[key] for key in TURNS if row.get(key) is not None), None)
    if messages is not None:
        if not isinstance(messages, list):
            raise DataError(f"{where}: turns {messages!r:.80}; expected a list")
        yield from _pairs([_said(message, images, where) for message in messages], where)
        return
    yield from _history(row.get("history"), where)
    if row.get("instruction") is not None:
        asked = [row.get(key) for key in ("instruction", "input") if row.get(key)]
        yield (
            "\n".join(_text(part, images, where) for part in asked),
            _text(row.get("output"), images, where),
        )
        return
    for question, answer in PAIRS:
        if row.get(question) is not None and row.get(answer) is not None:
            yield _text(row[question], images, where), _text(row[answer], images, where)
            return
    raise DataError(
        f"{where}: keys {', '.join(row)!r:.120}; expected messages, conversations, "
        "prefix and suffix, problem and solution, query and response, or instruction and output"
    )


def _system(row: Row, where: str) -> Iterator[str]:
    """What a row's system says, beside its turns or as one of them."""
    if isinstance(row.get("system"), str):
        yield row["system"]
    messages = next((row[key] for key in TURNS if row.get(key) is not None), None)
    for message in messages or ():
        yield from (text for role, text in _said(message, [], where) if role == "system")


def _history(history: Any, where: str) -> Iterator[tuple[str, str]]:
    for pair in history or ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"{where}: history {pair!r:.80}; expected pairs of question and answer")
        yield str(pair[0]), str(pair[1])


def _said(message: Any, images: list[str], where: str) -> list[tuple[str, str]]:
    """(who, what) of a message; one of ms-swift's pairs holds two."""
    if not isinstance(message, dict):
        raise DataError(f"{where}: turn {message!r:.80}; expected who says what")
    if "human" in message and "assistant" in message:
        pair = (("user", "human"), ("assistant", "assistant"))
        return [(role, _text(message[key], images, where)) for role, key in pair]
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    return [(str(role), _text(content, images, where))]


def _text(content: Any, images: list[str], where: str) -> str:
    """The text of a content, alone or in parts as OpenAI has them."""
    if isinstance(content, int | float) and not isinstance(content, bool):
        return str(content)
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise DataError(f"{where}: content {content!r:.80}; expected a text")
    texts = []
    for part in content:
        if not isinstance(part, dict):
            raise DataError(f"{where}: content {part!r:.80}; expected a text or an image")
        if part.get("video") or "video" in str(part.get("type")):
            raise DataError(f"{where}: {_VIDEO}")
        if held := next(filter(None, map(part.get, PLACES)), None):  # the others can be null
            images.append(_path(held, where))
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
    return "".join(texts)


def _pairs(said: list[list[tuple[str, str]]], where: str) -> Iterator[tuple[str, str]]:
    """Questions with the answers behind them; what a system says is neither.

    Where a tool spoke between the two, the question ends in TOOL_SAID.
    """
    asked: str | None = None
    for role, text in (turn for turns in said for turn in turns):
        if role in USERS:
            if asked is not None:
                raise DataError(f"{where}: two questions without an answer between them")
            asked = text
        elif role in TOOLS and asked is not None:
            asked += f"\n{TOOL_SAID}"
        elif role in ASSISTANTS:
            if asked is None:
                raise DataError(f"{where}: an answer without a question")
            yield asked, text
            asked = None
