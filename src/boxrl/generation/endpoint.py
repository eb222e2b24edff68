"""Generation by OpenAI-compatible servers: vLLM, SGLang, hosted models; needs no torch.

Requests go to the least busy of the servers, a bounded number at once. What may pass (429, 5xx,
time-outs, dropped connections, garbled answers) is tried again with exponential backoff and
jitter; what will not pass becomes a row that ended in error, or, where every question would meet
it (wrong key, unknown model, no image input), one clear line before anything is generated.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from PIL import Image

from boxrl.data.images import read_header
from boxrl.data.predictions import Prediction
from boxrl.errors import DataError, UsageError
from boxrl.generation.box_logprobs import Token, box_logprobs
from boxrl.generation.predict import Draw, Keep, Sampling, failed_row
from boxrl.generation.questions import GREY, Questions
from boxrl.generation.replies import Reply
from boxrl.generation.servers import Refused, Servers
from boxrl.generation.size_check import SMALL_WH, Ask, Counts, Size, SizeCheck
from boxrl.guard.secrets import redact
from boxrl.parsing.answers import THOUGHT
from boxrl.types import Sample

SENT_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
DRAWING = ("top_k", "top_p", "min_p")
"""Settings without meaning to greedy answers."""

LOG = logging.getLogger(__name__)

STREAMING: tuple[dict[str, Any], ...] = (
    {},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"stream": True},
)
"""Ways of asking, the first one that a server takes."""


class Endpoint:
    """One or more servers of the same model."""

    def __init__(
        self,
        questions: Questions,
        servers: Servers,
        model: str,
        banned: Sequence[int] = (),
        knows_size: bool = True,
        defaults: dict[str, Any] | None = None,
        extra_body: dict[str, Any] | None = None,
        named_limits: bool = False,
        max_request_mb: float = 20.0,
    ) -> None:
        """Nothing is sent yet.

        Args:
            questions: how samples are put.
            servers: who answers.
            model: the name by which they know it.
            banned: ids of tokens that must not be sampled.
            knows_size: whether the family's pixel limits are those of the model's folder. Where
                they are not, and boxes are pixels of the resized image, images are resized here,
                which the server's processor then leaves alone.
            defaults: what requests say where `Sampling` and `extra_body` say nothing; of `DRAWING`
                only where completions are drawn.
            extra_body: merged into every request; None removes a key.
            named_limits: whether the user named the family's pixel limits; images beyond them are
                then resized here, whatever the frame, unless the servers are seen to keep to them.
            max_request_mb: a larger request is not sent, but told of.
        """
        self.versions = {"servers": " ".join(servers.urls)}
        self.questions = questions
        self.servers = servers
        self.model = model
        self.banned = banned
        self.resized_here = named_limits or not knows_size
        self.defaults = defaults or {}
        self.extra_body = extra_body or {}
        self.named_limits = named_limits
        self.max_request_mb = max_request_mb
        self._told: set[str] = set()

    def run(self, wanted: Sequence[Draw], done: set[str], sampling: Sampling, keep: Keep) -> None:
        """Answer what is not done, many requests at once; see `predict.Engine`.

        Raises:
            UsageError: a server cannot be reached, refuses the key or the model, or takes no
                images.
        """
        missing = [draw for draw in wanted if draw.id not in done]
        asyncio.run(self._run(missing, sampling, keep))

    async def _run(self, missing: Sequence[Draw], sampling: Sampling, keep: Keep) -> None:
        finished: asyncio.Queue[Prediction] = asyncio.Queue()
        left = iter(missing)

        async def work() -> None:
            for draw in left:
                finished.put_nowait(await self._answer(draw, sampling))

        async def write() -> None:
            count = 0
            while count < len(missing):
                rows = [await finished.get(), *_waiting(finished)]
                keep(rows)
                count += len(rows)

        async with self.servers:
            await self._probe(sampling)
            await self._check_sizes(missing, sampling)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(write())
                    for _ in range(min(self.servers.capacity, len(missing))):
                        tasks.create_task(work())
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:  # answered in the moment in which something else ended the run
                if rows := _waiting(finished):
                    keep(rows)

    async def _probe(self, sampling: Sampling) -> None:
        """Ask every server about a grey image, so that what all questions would meet shows once."""
        replies = await self._ask_plainly(_about_grey(SMALL_WH), sampling)
        for server, reply in zip(self.servers.urls, replies, strict=True):
            if sampling.logprobs and not reply.spelled:
                raise UsageError(
                    f"{server}: gives no log-probabilities of the tokens that spell its answer; "
                    "leave --logprobs out"
                )
            self._tell_unknown(reply, server)
            if sampling.first_tokens and not reply.first_tokens:
                raise UsageError(
                    f"{server}: gives no probabilities of the likeliest tokens (top_logprobs), "
                    "which a verify question is answered by; take another server or engine"
                )

    async def _check_sizes(self, missing: Sequence[Draw], sampling: Sampling) -> None:
        """Where boxes depend on it, see at which size the servers show images.

        Raises:
            UsageError: at another than the family says, by the tokens that they count.
        """
        family = self.questions.family
        if family.frame != "resized":
            return
        sizes = {draw.sample.size_wh for draw in missing}
        check = SizeCheck(
            family, sizes, self.servers.urls, self.resized_here, named=self.named_limits
        )
        ask = partial(self._count_tokens, sampling)
        if not (self.named_limits and await self._server_keeps_to(check, ask)):
            await check.run(ask)

    async def _server_keeps_to(self, check: SizeCheck, ask: Ask) -> bool:
        """Whether the servers resize by the named limits themselves, so that files are sent whole.

        By limits that they were started with, or by those that vLLM takes with each request;
        others pass over these or refuse the field.
        """
        low, high = check.family.min_pixels, check.family.max_pixels
        asked = {"mm_processor_kwargs": {"min_pixels": low, "max_pixels": high}}
        whole, plain = replace(check, resized_here=False), self.extra_body
        for body in (plain, asked | plain):
            self.extra_body = body
            with suppress(Refused):
                if await whole.holds(ask):
                    self.resized_here = False
                    return True
        self.extra_body = plain
        return False

    async def _count_tokens(self, sampling: Sampling, sizes: Sequence[Size]) -> list[Counts]:
        """Prompt tokens of grey images, as each server counts them."""
        short = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, 16))
        bodies = [self._body(_about_grey(size), short) for size in sizes]
        replies = [await self.servers.ask_each(body) for body in bodies]
        return [[reply.prompt_tokens for reply in one] for one in zip(*replies, strict=True)]

    async def _ask_plainly(self, messages: list[dict[str, Any]], sampling: Sampling) -> list[Reply]:
        """Every server's reply; a server that only streams is asked for streams from then on."""
        body = self._body(messages, sampling)
        for streaming in STREAMING:
            try:
                replies = await self.servers.ask_each(body | streaming)
            except Refused as error:
                if "stream" in str(error) and streaming != STREAMING[-1]:
                    continue
                if error.hint:
                    raise UsageError(f"{error}: {error.hint}") from error
                raise UsageError(
                    f"{error}. It was asked about a plain image: does {self.model} take images, "
                    "and do --max-new-tokens, --logprobs and --extra-body suit the server?"
                ) from error
            self.extra_body = streaming | self.extra_body
            return replies
        raise AssertionError("the last way of asking returns or raises")

    async def _answer(self, draw: Draw, sampling: Sampling) -> Prediction:
        """The row of one draw; of one that failed for good, the reason."""
        # Reading and encoding an image takes longer than sending it; the loop goes on meanwhile.
        try:
            messages = await asyncio.to_thread(self._messages, draw.sample)
        except DataError as error:
            return failed_row(draw, str(error))
        body = self._body(messages, sampling)
        if sampling.temperature > 0 and "seed" not in self.extra_body:
            body["seed"] = draw.seed(sampling.seed)
        try:
            reply = await self.servers.ask(body)
        except Refused as error:
            return failed_row(draw, str(error))
        self._tell_unknown(reply, f"the server of {draw.id!r}")
        return self._prediction(draw, reply, sampling)

    def _tell_unknown(self, reply: Reply, where: str) -> None:
        """Tell once of every finish word that nobody knows; the grey image may end otherwise."""
        word = reply.unknown_word
        if word is not None and word not in self._told:
            self._told.add(word)
            LOG.warning(
                "%s: ends answers with finish_reason %r, which nobody here knows; such answers "
                "are taken to be whole", where, redact(word)[:40],
            )  # fmt: skip

    def _messages(self, sample: Sample) -> list[dict[str, Any]]:
        return self.questions.messages(sample, _image_part(self._image_url(sample)))

    def _body(self, messages: list[dict[str, Any]], sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
        }
        drawn = sampling.temperature > 0
        body |= {k: v for k, v in self.defaults.items() if drawn or k not in DRAWING}
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.logprobs:
            body["logprobs"] = True
        if sampling.first_tokens:
            body |= {"logprobs": True, "top_logprobs": sampling.first_tokens}
        if self.banned:
            body["logit_bias"] = {str(token): -100 for token in self.banned}
        if arguments := self.questions.thinking.template_arguments:
            body["chat_template_kwargs"] = arguments
        body |= self.extra_body
        return {key: value for key, value in body.items() if value is not None}

    def _image_url(self, sample: Sample) -> str:
        """The image as a data URL: the file's own bytes where they show what the model is to see.

        Raises:
            DataError: see `load_image`; also for a request over `max_request_mb`.
        """
        image = self.questions.image(sample)
        sizes = [self._sent_wh(image.size)]
        if self.named_limits:  # servers that keep to them leave the smaller image alone
            sizes.append(self.questions.family.input_size_wh(image.size))
        for size in sizes:
            url = self._url(sample, image, size)
            if len(url) <= self.max_request_mb * 1e6:
                return url
        raise DataError(
            f"sample {sample.id!r}: its image makes a request of {len(url) / 1e6:.1f} MB, more "
            f"than --max-request-mb {self.max_request_mb:g}; raise that where the server takes it, "
            "or show smaller images: --max-pixels"
        )

    def _url(self, sample: Sample, image: Image.Image, size: Size) -> str:
        if size != image.size:
            return _data_url(_png(image.resize(size, Image.Resampling.BICUBIC)), "image/png")
        path = self.questions.path(sample)
        header = read_header(path, f"sample {sample.id!r}")
        mime = SENT_AS_THEY_ARE.get(header.format)
        plain = header.mode in ("RGB", "L") and header.orientation == 1 and not header.animated
        if mime is None or not plain or self.questions.alters:
            return _data_url(_png(image), "image/png")
        return _data_url(path.read_bytes(), mime)

    def _sent_wh(self, size_wh: Size) -> Size:
        """Size at which an image is sent: its own, unless the frame or a limit asks for another."""
        family = self.questions.family
        if family.frame == "resized":
            return family.input_size_wh(size_wh) if self.resized_here else size_wh
        area = size_wh[0] * size_wh[1]
        within = family.min_pixels <= area <= family.max_pixels
        return family.input_size_wh(size_wh) if self.named_limits and not within else size_wh

    def _prediction(self, draw: Draw, reply: Reply, sampling: Sampling) -> Prediction:
        family, size = self.questions.family, draw.sample.size_wh
        input_size = family.input_size_wh(size)
        boxes = None
        if sampling.logprobs and reply.spelled is not None:
            tokens = [Token(*token) for token in reply.spelled]
            boxes = box_logprobs(reply.content, tokens, family, draw.sample, input_size)
        completion = reply.completion
        if self.questions.thinking.opened:  # by the prompt, and not once more
            completion = completion.removeprefix(THOUGHT[0])
        return Prediction(
            id=draw.id,
            completion=completion,
            n_tokens=reply.n_tokens,
            finish_reason=reply.finish_reason,
            input_size_wh=input_size,
            box_logprobs=boxes,
            first_tokens=reply.first_tokens if sampling.first_tokens else None,
            n_prompt_tokens=reply.prompt_tokens,
            n_hidden_tokens=reply.hidden_tokens,
        )


def _waiting(finished: asyncio.Queue[Prediction]) -> list[Prediction]:
    """The rows that nobody has taken yet."""
    return [finished.get_nowait() for _ in range(finished.qsize())]


def _about_grey(size_wh: Size) -> list[dict[str, Any]]:
    """A question about a plain image."""
    content = [_image_part(_grey(size_wh)), {"type": "text", "text": "Which colour is this?"}]
    return [{"role": "user", "content": content}]


@lru_cache(maxsize=64)
def _grey(size_wh: Size) -> str:
    """A plain image, drawn once: while limits are looked for, most sizes are asked about again."""
    return _data_url(_png(Image.new("RGB", size_wh, GREY)), "image/png")


def _image_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def _data_url(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue()
