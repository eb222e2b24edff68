"""Pages on loopback answer this machine's browser, and no other page that is open in it.

A page elsewhere can have its name lead to this machine (DNS rebinding), and can send requests
across origins; both show in the headers Host and Origin, which no page can choose.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

HOST = "127.0.0.1"
"""Where pages are served."""

MAX_BODY_BYTES = 64 * 2**20
"""Of one request: an image of the largest size that a camera writes."""

_NAMES = (HOST, "localhost", "[::1]")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def is_own(hosts: Iterable[str], origins: Iterable[str], port: int) -> bool:
    """Whether a request was made by this machine's own page, or typed into its browser.

    Args:
        hosts: values of the header Host.
        origins: values of the header Origin; a request within one page need not have it.
        port: that the page is served on, and forwarded to where it is.

    >>> is_own(["localhost:7860"], ["http://localhost:7860"], 7860)
    True
    >>> is_own(["evil.example:7860"], [], 7860)
    False
    """
    own = {f"{name}:{port}" for name in _NAMES} | (set(_NAMES) if port == 80 else set())
    asked = {host.lower() for host in hosts}
    allowed = {f"http://{name}" for name in own}
    return len(asked) == 1 and asked <= own and {o.lower() for o in origins} <= allowed


class OwnPage:
    """An ASGI application behind the check: foreign pages get 403, bodies without bound 413."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        status = self._status(scope)
        if status == 200:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    def _status(self, scope: Scope) -> int:
        """200, or why it is refused: 403 of a foreign page, 411 of no length, 413 too large."""
        found: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        if not is_own(found.get("host", []), found.get("origin", []), scope["server"][1]):
            return 403
        if "transfer-encoding" in found:
            return 411
        lengths = found.get("content-length", ["0"])
        bounded = all(n.isdecimal() and len(n) < 12 and int(n) <= MAX_BODY_BYTES for n in lengths)
        return 200 if bounded else 413
