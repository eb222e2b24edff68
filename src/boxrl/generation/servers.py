"""Chat servers behind one door: the least busy answers, what may pass is tried again.

The key is sent to the servers and nowhere else: what they say is redacted as it comes in.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2 as httpx

from boxrl.errors import UsageError
from boxrl.generation.replies import (
    FILTERED,
    UNREADABLE,
    NoReply,
    Reply,
    error_words,
    has_ended,
    is_stream,
    read_reply,
)
from boxrl.guard.files import parse_json
from boxrl.guard.secrets import hide, redact

PASSING = {408, 409, 425, 429}
"""Status codes under 500 that another try may turn into an answer."""

HINTS = {
    401: "the key was refused; is the variable that --api-key-env names set to a valid key?",
    402: "the account has no credit left",
    403: "the key may not use this model",
    404: "no such model or address; the URL usually ends in /v1, and the model's name is the "
    "server's own (--served-model-name)",
}
"""What status codes mean where a plain question meets them."""

FATAL = {401, 402}
"""Status codes that every question meets. Others may be about one input: 403 about one that was
moderated, 400, 413 and 422 about one that is too long or cannot be read."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""A longer answer is none; the bound keeps a server that never stops from filling the memory."""

MAX_REFUSAL_BYTES = 64 * 1024
"""What is read of an answer that is none."""

LONGEST_WAIT_S = 600.0
"""How long one question waits, all its tries together, for servers that ask for patience."""

MOST_LOST = 20
"""Questions in a row that no server answers, beyond those under way, before the run stops."""


class Refused(Exception):
    """A question failed for good; the message says why.

    Attributes:
        hint: what the refusal of a plain question would mean; "" where it means nothing more.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class _Failure(Exception):
    """One try failed, another may not."""

    def __init__(self, reason: str, asked_s: float | None = None) -> None:
        super().__init__(reason)
        self.asked_s = asked_s


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how long failures are waited out.

    Attributes:
        attempts: tries per question.
        first_s: seconds before the second try; doubled for each further one.
        longest_s: bound of the doubling.
    """

    attempts: int = 7
    first_s: float = 0.5
    longest_s: float = 30.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row.

        Jitter, a random half, keeps many questions from coming back at the same moment.
        """
        backoff = min(self.first_s * 2.0 ** min(failures - 1, 16), self.longest_s)
        return backoff * random.uniform(0.5, 1.0)


@dataclass(slots=True)
class _Server:
    """One server.

    Attributes:
        busy: requests under way.
        failures: in a row.
        resting_until: others are asked first until then, because it failed.
        closed_until: nobody asks before then, because it said so (Retry-After).
        closed_because: what it said.
    """

    url: str
    busy: int = 0
    failures: int = 0
    resting_until: float = 0.0
    closed_until: float = 0.0
    closed_because: str = ""

    def rank(self, now: float) -> tuple[float, bool, int]:
        """The smaller, the sooner it is asked."""
        return max(self.closed_until - now, 0.0), self.resting_until > now, self.busy


class Servers:
    """Servers of one model, as an async context."""

    def __init__(
        self,
        base_urls: Sequence[str],
        api_key: str | None = None,
        concurrency: int = 16,
        timeout_s: float = 600.0,
        retry: Retry | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            base_urls: one per server, up to and without `/chat/completions`.
            api_key: sent as a bearer token.
            concurrency: requests at once per server.
            timeout_s: longest time that one request may take, from connecting to the last byte.
            retry: how failures are waited out.

        Raises:
            UsageError: a URL is none, or holds a password; the key cannot be sent.
        """
        self._servers = [_Server(_checked_url(url)) for url in base_urls]
        self._headers = {}
        if api_key:
            self._headers = {"Authorization": f"Bearer {_checked_key(api_key)}"}
            hide(api_key)
        self._timeout_s = timeout_s
        self._retry = retry or Retry()
        self._lost = 0
        self.urls = [server.url for server in self._servers]
        self.capacity = concurrency * len(self._servers)

    async def __aenter__(self) -> Self:
        limits = httpx.Limits(max_connections=self.capacity)
        # Redirects are not followed: the key would go along.
        self._client = httpx.AsyncClient(headers=self._headers, limits=limits, timeout=None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def ask(self, body: dict[str, Any]) -> Reply:
        """The answer of the least busy server, after as many tries as it takes.

        Raises:
            Refused: the request itself is bad, or no try was answered.
            UsageError: every request would be refused.
        """
        return await self._ask(body, self._servers)

    async def ask_each(self, body: dict[str, Any]) -> list[Reply]:
        """Every server's answer to the same question.

        Raises:
            Refused: the first server's that refuses it.
            UsageError: every request would be refused.
        """
        asked = [self._ask(body, [server]) for server in self._servers]
        replies: list[Reply] = []
        for reply in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(reply, BaseException):
                raise reply
            replies.append(reply)
        return replies

    async def _ask(self, body: dict[str, Any], servers: Sequence[_Server]) -> Reply:
        patience_s = LONGEST_WAIT_S
        for failures in range(1, self._retry.attempts + 1):
            now = time.monotonic()
            server = min(servers, key=lambda each: each.rank(now))
            wait_s = max(server.closed_until - now, 0.0)
            patience_s -= wait_s
            if patience_s < 0:
                reason = f"{server.url}: {server.closed_because}"
                break
            await asyncio.sleep(wait_s)
            server.busy += 1
            try:
                reply = await self._try(server, body)
            except _Failure as failure:
                reason = f"{server.url}: {failure}"
                now = self._record_failure(server, failure)
                # Where another server is well, it takes the question at once.
                if failures < self._retry.attempts and all(s.resting_until > now for s in servers):
                    await asyncio.sleep(self._retry.wait_s(failures))
            except Refused:
                self._count_lost(f"{server.url}: refused every one of them")
                raise
            else:
                server.failures = self._lost = 0
                return reply
            finally:
                server.busy -= 1
        self._count_lost(reason)
        if patience_s < 0:
            raise Refused(f"{reason}; given up: longer than the limit of {LONGEST_WAIT_S:g} s")
        raise Refused(f"{reason}; given up after {self._retry.attempts} tries")

    def _count_lost(self, reason: str) -> None:
        """Count a question without an answer.

        Raises:
            UsageError: too many came in a row for the servers to be well.
        """
        self._lost += 1
        if self._lost > self.capacity + MOST_LOST:
            raise UsageError(
                f"{reason}; no server answered {self._lost} questions in a row. Finished rows "
                "are kept: rerun the same command once the servers respond"
            )

    def _record_failure(self, server: _Server, failure: _Failure) -> float:
        """Note when the server may be asked again; returns the time."""
        now = time.monotonic()
        server.failures += 1
        server.resting_until = now + self._retry.wait_s(server.failures)
        if failure.asked_s is not None:
            server.closed_until = now + failure.asked_s
            server.closed_because = f"{failure}, asks to be left alone for {failure.asked_s:,.0f} s"
        return now

    async def _try(self, server: _Server, body: dict[str, Any]) -> Reply:
        content = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._post(server, body, content)
                if response.status_code == 200:
                    return await asyncio.to_thread(_read, bytes(content))
        except TimeoutError as error:
            if is_stream(content):  # the next one would take as long
                raise Refused(
                    f"{server.url}: its answer did not end within {self._timeout_s:g} s (--timeout)"
                ) from error
            raise _Failure(f"no answer within {self._timeout_s:g} s (--timeout)") from error
        except httpx.HTTPError as error:
            said = " ".join(redact(f"{type(error).__name__}: {error}").split())
            raise _Failure(f"connection failed ({said:.300})") from error
        said = _said(response, bytes(content[:MAX_REFUSAL_BYTES]))
        status = response.status_code
        if status in FATAL:
            raise UsageError(f"{server.url}: {said}: {HINTS[status]}")
        if status >= 500 or status in PASSING:
            raise _Failure(said, _asked_s(response.headers))
        raise Refused(f"{server.url}: {said}", HINTS.get(status, ""))

    async def _post(
        self, server: _Server, body: dict[str, Any], content: bytearray
    ) -> httpx.Response:
        """Send the request; what comes back is put into `content` as it comes."""
        url = f"{server.url}/chat/completions"
        async with self._client.stream("POST", url, json=body) as response:
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise _Failure(f"answered with more than {MAX_ANSWER_BYTES // 2**20} MB")
                if is_stream(content) and has_ended(content):
                    break  # some servers keep the connection open
        return response


def _said(response: httpx.Response, content: bytes) -> str:
    """Status and message of a refusal, on one line."""
    message = content.decode("utf-8", "replace")
    if response.is_redirect:
        message = response.headers.get("Location", "")
    with contextlib.suppress(*UNREADABLE):  # not every server answers in JSON
        message = error_words(parse_json(message))
    message = " ".join(redact(message).split())
    return f"HTTP {response.status_code} {message[:300]!r}"


def _read(content: bytes) -> Reply:
    """The reply with the key cut out; what is none counts as a failed try."""
    try:
        reply = read_reply(content)
    except NoReply as error:
        raise _Failure(redact(str(error))[:300]) from error
    if reply.finish_reason == "error":
        words = redact(str(reply.error))[:300]
        if words == FILTERED:
            raise Refused(f"the server's filter refused the answer ({words})")
        raise _Failure(f"the server ended the answer with {words!r}")
    reasoning = None if reply.reasoning is None else redact(reply.reasoning)
    return reply._replace(content=redact(reply.content), reasoning=reasoning)


def _asked_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or as a date.

    A date counts from the answer's own Date: clocks of two machines need not agree.
    """
    retry_after = headers.get("Retry-After")
    if retry_after is None:
        return None
    try:
        if retry_after.strip().isdecimal():
            return float(retry_after)
        until = parsedate_to_datetime(retry_after).timestamp()
        date = headers.get("Date")
        now = time.time() if date is None else parsedate_to_datetime(date).timestamp()
        return max(until - now, 0.0)
    except (ValueError, OverflowError):
        return None


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.query:
        raise UsageError(
            f"--base-url {url.partition('?')[0]!r}: has a query behind it; give the URL up to /v1, "
            "and a key through the variable that --api-key-env names"
        )
    if parts.password or parts.username:
        raise UsageError(
            "--base-url: holds a password, which would end up in logs; put the key into the "
            "variable that --api-key-env names"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--base-url {url!r}: expected a URL such as http://127.0.0.1:8000/v1")
    return url.rstrip("/").removesuffix("/chat/completions")


def _checked_key(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError("--api-key-env: the key in it holds spaces or other unsendable characters")
    return key
