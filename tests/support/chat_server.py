"""A chat server on loopback that misbehaves as told."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

Fault = Callable[[int, dict[str, Any]], str | None]
"""(number of the request from 0, its body) -> what to do instead of answering, or None."""

JSON_FAULTS = {"500": 500, "429": 429, "503": 503, "400": 400, "401": 401, "404": 404}


def no_fault(number: int, body: dict[str, Any]) -> str | None:
    return None


def random_faults(share: float, seed: int) -> Fault:
    rng = random.Random(seed)
    kinds = ("drop", "500", "429", "garbled", "html", "cut")

    def fault(number: int, body: dict[str, Any]) -> str | None:
        return rng.choice(kinds) if rng.random() < share else None

    return fault


def answer(body: dict[str, Any]) -> str:
    """A box that depends on question, image and seed alone."""
    key = json.dumps([body["messages"], body.get("seed")]).encode()
    a, b, c, d = hashlib.sha256(key).digest()[:4]
    items = [{"bbox_2d": [a % 50, b % 50, 50 + c % 50, 50 + d % 50], "label": "red circle"}]
    return f"<think>1</think>\n<answer>{json.dumps(items)}</answer>"


def image_of(body: dict[str, Any]) -> Image.Image:
    """The image that a request carries."""
    url = body["messages"][-1]["content"][0]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


class ChatServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, fault: Fault, message: str, delay_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault, self.message, self.delay_s = fault, message, delay_s
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed while they wait; that is what the tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            server.times.append(time.monotonic())
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
            fault = server.fault(number, body)
        try:
            time.sleep(server.delay_s)
            self._misbehave(fault) if fault else self._reply(200, completion(body))
        finally:
            with server.lock:
                server.busy -= 1

    def _misbehave(self, fault: str) -> None:
        if fault == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "hang":
            time.sleep(30)
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "huge":
            self.send_response(200)
            self.send_header("Content-Length", str(400 * 2**20))
            self.end_headers()
            for _ in range(400):
                self.wfile.write(b" " * 2**20)
        elif fault.startswith("HTTP/"):  # byte for byte
            self.wfile.write(fault.encode("utf-8", "surrogateescape"))
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.startswith(("{", ":", "data:")):
            self._reply(200, fault)
        elif fault in ("garbled", "html"):
            self._reply(200, '{"choices": []}' if fault == "garbled" else "<html>busy</html>")
        else:
            code, _, wait = fault.partition(" ")
            self._reply(
                JSON_FAULTS[code], json.dumps({"error": {"message": self.server.message}}), wait
            )

    def _reply(self, status: int, content: str, retry_after: str = "") -> None:
        data = content.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(data)


def completion(body: dict[str, Any]) -> str:
    """The reply to a request, one character a token where log-probabilities are asked for."""
    text = answer(body)
    logprobs = [{"token": c, "logprob": -k / 100} for k, c in enumerate([*text, "<|im_end|>"])]
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": logprobs}
    usage = {"completion_tokens": len(logprobs), "prompt_tokens": 50 + image_tokens(body)}
    return json.dumps({"choices": [choice], "usage": usage})


def image_tokens(body: dict[str, Any]) -> int:
    """Tokens of the image, by Qwen2.5-VL's rule without limits."""
    width, height = image_of(body).size
    return round(width / 28) * round(height / 28)


@contextmanager
def chat_server(
    fault: Fault = no_fault, message: str = "out of order", delay_s: float = 0.0
) -> Iterator[ChatServer]:
    """A server while the block lasts."""
    server = ChatServer(fault, message, delay_s)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
