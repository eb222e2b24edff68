"""Who may ask a page on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boxrl.guard.pages import MAX_BODY_BYTES, OwnPage, is_own

OWN = "http://127.0.0.1:7860"


@pytest.mark.parametrize(
    ("hosts", "origins", "port", "own"),
    [
        (["127.0.0.1:7860"], [], 7860, True),
        (["LOCALHOST:7860"], ["http://LocalHost:7860"], 7860, True),
        (["[::1]:7860"], [OWN], 7860, True),
        (["localhost"], ["http://localhost"], 80, True),
        (["localhost"], [], 7860, False),
        (["localhost:7861"], [], 7860, False),
        (["evil.example:7860"], [], 7860, False),
        (["127.0.0.1.nip.io:7860"], [], 7860, False),
        (["127.1:7860"], [], 7860, False),
        (["localhost:7860", "evil.example:7860"], [], 7860, False),
        (["localhost:7860, evil.example"], [], 7860, False),
        ([], [], 7860, False),
        ([""], [], 7860, False),
        (["localhost:7860"], ["null"], 7860, False),
        (["localhost:7860"], ["https://localhost:7860"], 7860, False),
        (["localhost:7860"], ["http://localhost:3000"], 7860, False),
        (["localhost:7860"], ["http://evil.example"], 7860, False),
        (["localhost:7860"], [OWN, "http://evil.example"], 7860, False),
    ],
)
def test_only_the_own_page_is_answered(
    hosts: list[str], origins: list[str], port: int, own: bool
) -> None:
    assert is_own(hosts, origins, port) is own


def status_of(headers: dict[str, str], kind: str = "http") -> Any:
    """What an application behind the check answers."""
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "server": ("127.0.0.1", 7860),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
    }
    asyncio.run(OwnPage(application)(scope, None, send))  # type: ignore[arg-type]
    return sent[0].get("status") or sent[0]["type"]


def test_an_application_behind_the_check() -> None:
    own = {"host": "localhost:7860"}
    assert status_of(own) == 200
    assert status_of({}, "lifespan") == 200
    assert status_of({"host": "evil.example:7860"}) == 403
    assert status_of(own | {"origin": "http://evil.example"}) == 403
    assert status_of({"host": "evil.example"}, "websocket") == "websocket.close"
    assert status_of(own | {"content-length": str(MAX_BODY_BYTES)}) == 200
    for length in (str(MAX_BODY_BYTES + 1), "9" * 5000, "-1", "\xb2", ""):
        assert status_of(own | {"content-length": length}) == 413
    assert status_of(own | {"transfer-encoding": "chunked"}) == 411
