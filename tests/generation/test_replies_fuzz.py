"""Replies of odd shapes: valid JSON with values swapped, cut bodies and streams."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxrl.generation.replies import NoReply, Reply, read_reply

BODIES = [
    json.loads(line)["body"]
    for line in (Path(__file__).parents[1] / "golden" / "replies.jsonl").read_text().splitlines()
]
ODD = (
    None, True, 0, -1, 1.5, 1e308, 10**30, "", "x", "\ud800", "[" * 50, [], [[]], {}, {"a": 1},
    [None], [{"type": "text"}], [{"text": 5}], {"message": None}, {"content": {}}, "data: {}",
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from places(inner)


def spoiled(rng: random.Random) -> bytes:
    """A body with up to three values swapped for odd ones, or cut."""
    body = json.loads(json.dumps(rng.choice(BODIES)))
    if isinstance(body, (dict, list)):
        for _ in range(rng.randint(0, 3)):
            container, key = rng.choice(list(places(body)) or [(body, None)])
            if key is not None and rng.random() < 0.2 and isinstance(container, dict):
                del container[key]
            elif key is not None:
                container[key] = copy.deepcopy(rng.choice(ODD))
        body = json.dumps(body)
    data: bytes = body.encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        data = data[: rng.randint(0, len(data))]
    if rng.random() < 0.1:
        data = data.replace(b'"content"', b'"reasoning"')
    return b"data: " + data + b"\n\n" if rng.random() < 0.2 else data


def check(count: int, seed: int) -> dict[str, int]:
    rng, seen = random.Random(seed), {"read": 0, "refused": 0}
    for _ in range(count):
        body = spoiled(rng)
        try:
            reply = read_reply(body)
        except NoReply as told:
            assert str(told).strip(), body
            seen["refused"] += 1
            continue
        assert isinstance(reply, Reply)
        reply.completion.encode()  # a file can hold it
        assert reply.finish_reason in ("stop", "length", "error"), body
        assert (reply.error is not None) == (reply.finish_reason == "error"), body
        assert reply.n_tokens is None or 0 <= reply.n_tokens <= 2**53, body
        assert reply.spelled is None or len(reply.spelled) <= len(reply.tokens or ()), body
        seen["read"] += 1
    return seen


def test_no_reply_is_an_exception() -> None:
    seen = check(3_000, seed=0)
    assert min(seen.values()) > 300


@pytest.mark.slow
def test_two_hundred_thousand_replies_are_read_or_refused() -> None:
    seen = check(200_000, seed=1)
    assert min(seen.values()) > 20_000
