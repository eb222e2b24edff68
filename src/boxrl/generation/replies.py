"""What chat servers answer with, read into one form: content, thought, finish word, usage, errors.

Servers agree on little more than `choices[0].message.content`. Content may be text, a list of
parts or null; the thought stands in a field of one of three names, in a part, or in the content;
an error may come with HTTP 200, as a dict, a list or a text; some stream without being asked.
Nothing is guessed: what is no reply raises `NoReply` with the server's own words.

Source: the protocol code of vLLM, SGLang, llama.cpp, ollama and TGI, and the pages of OpenRouter,
Gemini and DashScope; a body of each kind stands in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from boxrl.data.files import is_whole
from boxrl.data.predictions import FinishReason
from boxrl.guard.files import parse_json
from boxrl.parsing.answers import THOUGHT

CUT = frozenset({
    "length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded",
    "repetition",
})  # fmt: skip
"""Finish words, in lower case, of an answer that was cut; vLLM also cuts what repeats itself."""

WHOLE = frozenset({
    "stop", "stop_sequence", "eos_token", "eos", "end_turn", "complete", "tool_calls",
    "function_call", "none",
})  # fmt: skip
"""Finish words of a whole answer, and Python's for none at all."""

FILTERED = "content_filter"
FILTERS = ("safety", "recitation", "prohibited_content", "blocklist", "spii", "refusal")
"""Vendors' own words for it, which some proxies pass on."""

FAILED = {"abort": "aborted", "error": "error", "load": "load"} | dict.fromkeys(
    (FILTERED, *FILTERS), FILTERED
)
"""Finish words of answers that must not be scored, and what is told of them."""

NO_WORDS = "an error without a message"

REASONING = ("reasoning", "reasoning_content", "thinking")

UNREADABLE = (
    ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""What reading a server's JSON can raise, whatever it holds."""

Token = tuple[str, float]
"""A generated token's text and its log-probability."""


class NoReply(Exception):
    """The body is no reply; the message is the server's own words where it has any."""


class Reply(NamedTuple):
    """What a server wrote.

    Attributes:
        content: the answer's text, "" where there is none.
        reasoning: the thought, where the server split it off.
        finish_reason: `error` where the text must not be scored.
        n_tokens: completion tokens as the server counts them; None where it does not say.
        tokens: all generated tokens, where log-probabilities were asked for and given.
        error: the server's words where `finish_reason` is `error`.
        prompt_tokens: as the server counts them; None where it does not say.
        hidden_tokens: what its total counts beyond the two, as Gemini and xAI count thoughts.
        unknown_word: a finish word that nobody here knows; the answer is taken to be whole.
    """

    content: str
    reasoning: str | None
    finish_reason: FinishReason
    n_tokens: int | None = None
    tokens: list[Token] | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    hidden_tokens: int | None = None
    unknown_word: str | None = None
    likeliest: list[dict[str, float]] | None = None

    @property
    def first_tokens(self) -> dict[str, float] | None:
        """The likeliest tokens at the answer's start and their probabilities; None if not given."""
        spelled = self.spelled
        if not self.tokens or not self.likeliest or spelled is None:
            return None
        return self.likeliest[min(len(self.tokens) - len(spelled), len(self.tokens) - 1)] or None

    @property
    def completion(self) -> str:
        """Thought and answer as one text; a thought that was cut stays open."""
        if self.reasoning is None:
            return self.content
        thought = self.reasoning
        for tag in THOUGHT:
            thought = thought.replace(tag, "")
        if not self.content and self.finish_reason == "length":
            return THOUGHT[0] + thought
        return f"{THOUGHT[0]}{thought}{THOUGHT[1]}\n{self.content}"

    @property
    def spelled(self) -> list[Token] | None:
        """The tokens of the answer; None where none are given that spell it."""
        return None if self.tokens is None else spelling(self.tokens, self.content)


def is_stream(body: bytes | bytearray) -> bool:
    """Whether a body, or the beginning of one, is a stream of server-sent events."""
    return body[:64].lstrip().startswith((b"data:", b":", b"event:"))


def has_ended(stream: bytes | bytearray) -> bool:
    """Whether a stream has said that nothing follows, even if it is kept open."""
    return stream[-64:].rstrip().endswith(b"data: [DONE]")


def read_reply(body: bytes) -> Reply:
    """The first choice of a chat completion, streamed or not.

    Raises:
        NoReply: an error whatever the status, no choices, or nothing that can be read.
    """
    text = body.lstrip()
    if not text:
        raise NoReply("answered with an empty body")
    try:
        if is_stream(text):
            return _read_choice(*_joined(text))
        content = parse_json(text)
        if isinstance(content, list) and len(content) == 1:
            content = content[0]  # Gemini wraps errors into an array
        if content.get("error"):
            raise NoReply(error_words(content))
        choices = content.get("choices")
        if not choices:
            said = error_words(content)
            raise NoReply("answered with no choices" if said == NO_WORDS else said)
        first = min(choices, key=lambda choice: choice.get("index") or 0)
        return _read_choice(first, content.get("usage") if len(choices) == 1 else None)
    except UNREADABLE as error:
        said = " ".join(text[:200].decode("utf-8", "replace").split())
        raise NoReply(f"answered with no chat completion: {said!r}") from error


def error_words(content: Any) -> str:
    """The message in a server's error, whatever form it has; never empty."""
    value = content
    for _ in range(8):  # forms are nested; no server nests them deeper
        if isinstance(value, list) and value:
            value = value[0]
        elif isinstance(value, Mapping):
            known = (value.get(key) for key in ("error", "message", "msg", "detail"))
            value = next((item for item in known if item), "")
        else:
            break
    words = " ".join(value.split()) if isinstance(value, str) else ""
    return words or NO_WORDS


def spelling(tokens: list[Token], content: str) -> list[Token] | None:
    """The tokens from the one on that begins the content; None where they do not spell it.

    Servers that split the thought off still list its tokens. Characters of several bytes may be
    cut into tokens that show none of them, so that printable ASCII is what is compared.

    Args:
        tokens: all that were generated.
        content: the text that the server gives as the answer.
    """
    wanted = _printable(content)
    if not wanted:
        return tokens
    spelled = [_printable(text) for text, _ in tokens]
    start = "".join(spelled).rfind(wanted)
    if start < 0:
        return None
    position = 0
    for index, text in enumerate(spelled):
        position += len(text)
        if position > start:
            return tokens[index:]
    return None


def _printable(text: str) -> str:
    return "".join([character for character in text if "!" <= character <= "~"])


def _read_choice(choice: Mapping[str, Any], usage: Any) -> Reply:
    message = choice.get("message") or {}
    content, thought = _content(message.get("content") or choice.get("text") or "")
    split_off = _split_off(message)
    n_tokens, prompt_tokens, hidden = _counted(usage, bool(content or split_off or thought))
    said = str(choice.get("finish_reason")).partition(":")[0].strip()
    word = said.lower()
    finish_reason, error = _finish(choice, word)
    return Reply(
        content=_writable(content),
        reasoning=_writable(split_off or thought) or None,
        finish_reason=finish_reason,
        n_tokens=n_tokens,
        tokens=_tokens(choice.get("logprobs")),
        error=error,
        prompt_tokens=prompt_tokens,
        hidden_tokens=hidden,
        unknown_word=None if word in WHOLE | CUT | FAILED.keys() else _writable(said),
        likeliest=_likeliest(choice.get("logprobs")),
    )


def _content(content: Any) -> tuple[str, str]:
    """Text and thought of a message's content: a text, or parts of several kinds."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise TypeError(f"content is a {type(content).__name__}")
    text: list[str] = []
    thought: list[str] = []
    for part in content:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part.get("text"), str):
            (thought if part.get("type") in REASONING else text).append(part["text"])
        elif part.get("thinking"):
            thought.append(_content(part["thinking"])[0])
    return "".join(text), "".join(thought)


def _counted(usage: Any, written: bool) -> tuple[int | None, int | None, int | None]:
    """Tokens of completion and prompt, and those that the total counts beyond them.

    None stands where nobody counted: some servers then say 0, which no prompt has, nor an answer
    that is `written`.
    """
    usage = usage if isinstance(usage, Mapping) else {}
    n_tokens, prompt_tokens, total = (
        count if is_whole(count) else None
        for count in map(usage.get, ("completion_tokens", "prompt_tokens", "total_tokens"))
    )
    n_tokens = None if written and not n_tokens else n_tokens
    prompt_tokens = prompt_tokens or None
    if n_tokens is None or prompt_tokens is None or total is None:
        return n_tokens, prompt_tokens, None
    return n_tokens, prompt_tokens, max(total - prompt_tokens - n_tokens, 0) or None


def _split_off(message: Mapping[str, Any]) -> str:
    """The thought in a field of its own; some servers send one name empty beside another."""
    found = (message.get(key) for key in REASONING)
    return next((text for text in found if isinstance(text, str) and text), "")


def _finish(choice: Mapping[str, Any], word: str) -> tuple[FinishReason, str | None]:
    """How the answer ended; words that are not known, and none at all, are those of a whole one."""
    if choice.get("error"):
        return "error", error_words(choice["error"])
    if word in FAILED:
        return "error", FAILED[word]
    return "length" if word in CUT else "stop", None


def _tokens(logprobs: Any) -> list[Token] | None:
    listed = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if listed is None:
        return None
    return [(str(token["token"]), float(token["logprob"])) for token in listed]


def _likeliest(logprobs: Any) -> list[dict[str, float]] | None:
    """Of every token the likeliest ones in its place, with their probabilities."""
    listed = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if listed is None:
        return None
    found = []
    for token in listed:
        places: dict[str, float] = {}
        for other in token.get("top_logprobs") or ():
            text, value = str(other["token"]), float(other["logprob"])
            places[text] = min(1.0, places.get(text, 0.0) + math.exp(min(value, 0.0)))
        found.append(places)
    return found


def _joined(stream: bytes) -> tuple[dict[str, Any], Any]:
    """The choice and the usage that the chunks of a stream add up to.

    Raises:
        NoReply: no chunk holds a choice, or none says that it was the last.
    """
    text: list[str] = []
    thought: list[str] = []
    tokens: list[Any] = []
    choice: dict[str, Any] = {}
    usage, several = None, False
    for chunk in _chunks(stream):
        usage = chunk.get("usage") or usage
        if chunk.get("error"):
            choice["error"] = chunk["error"]
        for part in chunk.get("choices") or ():
            if part.get("index"):
                several = True
                continue  # of several choices the first counts
            delta = part.get("delta") or part.get("message") or {}
            answered, in_parts = _content(delta.get("content") or part.get("text") or "")
            text.append(answered)
            thought.append(_split_off(delta) or in_parts)
            tokens += (part.get("logprobs") or {}).get("content") or ()
            choice["finish_reason"] = part.get("finish_reason") or choice.get("finish_reason")
            if part.get("error"):
                choice["error"] = part["error"]
    if not choice:
        raise NoReply("answered with a stream without choices")
    if not (choice.get("finish_reason") or choice.get("error") or has_ended(stream)):
        raise NoReply("answered with a stream that broke off")
    choice["message"] = {"content": "".join(text), "reasoning": "".join(thought)}
    choice["logprobs"] = {"content": tokens} if tokens else None
    return choice, None if several else usage


def _chunks(stream: bytes) -> Iterator[Any]:
    """The JSON objects of a stream of server-sent events; comments and other fields are none."""
    for line in stream.splitlines():
        field, _, data = line.partition(b":")
        if field != b"data" or data.strip() in (b"", b"[DONE]"):
            continue
        yield parse_json(data)


def _writable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can spell and no file can hold."""
    return text.encode("utf-8", "replace").decode()
