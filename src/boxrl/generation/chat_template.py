"""A model folder's chat template, rendered without torch: does it open the thought, does it think.

Templates of thinking models end the prompt inside an open `<think>`, so that completions begin in
the thought; some have a switch, `enable_thinking`, that decides. Templates come from others: they
are rendered in jinja's sandbox, as transformers does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from boxrl.errors import DataError, UsageError
from boxrl.guard.files import read_json_object, read_text
from boxrl.parsing.answers import opens_thought

SWITCH = "enable_thinking"
"""The variable by which templates are told to think or not."""

PLAIN_QUESTION = (
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where?"}]},
)


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model's template treats the thought; the same in training, validation and prediction.

    Attributes:
        switch: what the template's switch is set to; None leaves it to the template.
        opened: whether the prompt opens the thought, so that completions begin in it.
    """

    switch: bool | None = None
    opened: bool = False

    @property
    def template_arguments(self) -> dict[str, Any]:
        """What the template is rendered with besides the messages."""
        return {} if self.switch is None else {SWITCH: self.switch}

    @property
    def settings(self) -> dict[str, Any]:
        """What predictions.meta.json says of it; nothing where nothing is special."""
        stated = {"thinking": self.switch, "opens_thought": self.opened or None}
        return {key: value for key, value in stated.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A chat template.

    Attributes:
        text: Jinja's.
        where: the file that it stands in.
        tokens: special tokens that it may name, such as `bos_token`.
    """

    text: str
    where: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    def render(self, messages: Sequence[Mapping[str, Any]], **arguments: Any) -> str:
        """The prompt up to where the completion begins.

        Args:
            messages: the conversation, images as `{"type": "image"}`.
            arguments: of the template, such as `enable_thinking`.

        Raises:
            UsageError: the template is broken, or refuses these messages.
        """
        known = {"add_generation_prompt": True} | dict(self.tokens) | arguments
        try:
            return _compiled(self.text).render(messages=messages, **known)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, RecursionError) as error:
            said = " ".join(str(error).split())
            raise UsageError(
                f"{self.where}: the chat template cannot be rendered ({said})"
            ) from error


class _Generation(Extension):
    """`{% generation %}`, by which templates mark what the model writes."""

    tags = {"generation"}  # noqa: RUF012 (jinja's own way)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """What stands in the block, as it is."""
        next(parser.stream)
        return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), True))


@lru_cache(maxsize=16)
def _compiled(text: str) -> jinja2.Template:
    """Compiled once: that takes far longer than to render, and every template is asked often."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda _: ""}
    environment.filters["tojson"] = _to_json
    return environment.from_string(text)


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """The folder's template; None where it has none.

    Raises:
        UsageError: a file is damaged.
    """
    config = _read(folder / "tokenizer_config.json")
    tokens = {
        key: text
        for key, value in config.items()
        if key.endswith("_token")
        and isinstance(text := value.get("content") if isinstance(value, dict) else value, str)
    }
    path = folder / "chat_template.jinja"
    if path.is_file():
        return ChatTemplate(read_text(path), str(path), tokens)
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        text = _read(folder / name).get("chat_template")
        if isinstance(text, list):  # several templates by name
            each_by_name = [each for each in text if isinstance(each, dict)]
            named = [one.get("template") for one in each_by_name if one.get("name") == "default"]
            text = next(iter(named), None)
        if isinstance(text, str):
            return ChatTemplate(text, str(folder / name), tokens)
    return None


_MARK = "boxrl-looks-for-this"
_ELSEWHERE = "place the instruction elsewhere, as in enhanced@user-prefix"


def is_quoted(text: str, rendered: str) -> bool:
    """Whether a template that takes no parts wrote those of a message: [{'type': 'text', ...

    Args:
        text: of a part.
        rendered: what the template made of it.
    """
    return any(f"{quote}{text}{quote}" in rendered for quote in "'\"")


def check_template(template: ChatTemplate, system: bool, **arguments: Any) -> None:
    """Refuse a template under which a model would not see what it is asked.

    Args:
        template: of the model folder.
        system: whether the prompt has a system message.
        arguments: as of `ChatTemplate.render`.

    Raises:
        UsageError: it opens no answer, or drops images, the question or the system message, or
            takes that in another form.
    """
    words = [{"type": "text", "text": _MARK}]
    user = {"role": "user", "content": [{"type": "image"}, *words]}
    asked = template.render([user], **arguments)
    blind = template.render([{"role": "user", "content": words}], **arguments)
    told = _with_system(template, words, **arguments) if system else _MARK
    faults = {
        "opens no answer for the model (add_generation_prompt changes nothing)": (
            not _opens_answer(template, words, **arguments)
        ),
        "drops images": asked == blind,
        "drops the user's text": _MARK not in asked,
        f"drops the system message; {_ELSEWHERE}": _MARK not in told,
        f"writes the system message as a list of parts; {_ELSEWHERE}": is_quoted(_MARK, told),
    }
    for fault, found in faults.items():
        if found:
            raise UsageError(f"{template.where}: the chat template {fault}")


def _opens_answer(template: ChatTemplate, words: Sequence[Any], **arguments: Any) -> bool:
    """Whether the prompt ends where an answer begins, asked to or always."""
    prompt = template.render(PLAIN_QUESTION, **arguments)
    if prompt != template.render(PLAIN_QUESTION, **arguments, add_generation_prompt=False):
        return True
    answered = [*PLAIN_QUESTION, {"role": "assistant", "content": words}]
    whole = template.render(answered, **arguments, add_generation_prompt=False)
    return not whole.startswith(prompt) or not whole[len(prompt) : whole.find(_MARK)].strip()


def _with_system(template: ChatTemplate, words: Sequence[Any], **arguments: Any) -> str:
    return template.render([{"role": "system", "content": words}, *PLAIN_QUESTION], **arguments)


def read_thinking(
    folder: Path | None,
    switch: bool | None = None,
    system: bool = False,
    rendered_here: bool = False,
) -> Thinking:
    """How the folder's template treats the thought; the template is checked.

    Args:
        folder: of the model; None where it is a server's and nothing is known of its template.
        switch: what the template's switch is to be set to; None leaves it to the template.
        system: whether the prompt has a system message.
        rendered_here: whether nobody else has a template to render.

    Raises:
        UsageError: the template has no switch, is broken, or drops what is asked, or there is
            none and `rendered_here`.
    """
    template = read_chat_template(folder) if folder is not None else None
    if template is None:
        if rendered_here:
            raise UsageError(
                f"{folder}: has no chat template (chat_template.jinja, or chat_template in "
                "tokenizer_config.json); copy it from the folder that the model came from"
            )
        return Thinking(switch)
    if switch is not None and SWITCH not in template.text:
        raise UsageError(
            f"{template.where}: has no switch for thinking ({SWITCH}); leave the key thinking and "
            "the option --thinking out"
        )
    chosen = Thinking(switch)
    check_template(template, system, **chosen.template_arguments)
    prompt = template.render(PLAIN_QUESTION, **chosen.template_arguments)
    return Thinking(switch, opens_thought(prompt))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it; jinja's own is for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> None:
    """What templates call where they refuse messages."""
    raise jinja2.TemplateError(message)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_json_object(path)
    except DataError as error:
        raise UsageError(f"{error}; the model folder is damaged") from error
