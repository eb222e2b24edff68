"""A hub on loopback, as far as huggingface_hub asks one: listings, files by range, refusals."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What it holds, and what it was asked.

    Attributes:
        models: id -> folder.
        refused: id -> (status, X-Error-Code) of what nobody gets.
        cut_at: file -> bytes after which its next downloads break off, one after the other.
        asked: (method, path, Range) of each request.
        committed: (path in the repository -> content) of what was pushed.
    """

    models: dict[str, Path]
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut_at: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    committed: dict[str, bytes] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def files_of(self, model: str) -> list[Path]:
        return sorted(path for path in self.models[model].rglob("*") if path.is_file())


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers from the hub of its server."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> FakeHub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        words = path.strip("/").split("/")
        api = words[:2] == ["api", "models"]
        model = "/".join(words[2:4] if api else words[:2])
        if model in self.hub.refused:
            status, code = self.hub.refused[model]
            self.reply(status, b'{"error": "no"}', {"X-Error-Code": code})
        elif model not in self.hub.models:
            self.reply(404, b'{"error": "no"}', {"X-Error-Code": "RepoNotFound"})
        elif api:
            self.list(model, words[4])
        else:
            self.send_file(model, "/".join(words[4:]))

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.hub.asked.append(("POST", path, None))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/repos/create":
            self.hub.created.append(json.loads(body))
            self.reply(200, json.dumps({"url": f"{self.hub.url}/me/mine", "id": "me/mine"}))
        elif path == "/api/validate-yaml":  # of the model card
            self.reply(200, json.dumps({"errors": [], "warnings": []}))
        elif path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            rows = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in files]  # fmt: skip
            self.reply(200, json.dumps({"files": rows}))
        elif path.endswith("/commit/main"):
            self.commit(body)
        else:
            self.reply(404, b"{}")

    def commit(self, body: bytes) -> None:
        import base64

        for line in body.splitlines():
            row = json.loads(line)
            if row["key"] == "file":
                content = base64.b64decode(row["value"]["content"])
                self.hub.committed[row["value"]["path"]] = content
        url = f"{self.hub.url}/me/mine/commit/{COMMIT}"
        self.reply(200, json.dumps({"commitUrl": url, "commitOid": COMMIT, "success": True}))

    def list(self, model: str, what: str) -> None:
        folder = self.hub.models[model]
        if what == "revision":
            names = [path.relative_to(folder).as_posix() for path in self.hub.files_of(model)]
            siblings = [{"rfilename": name} for name in names]
            self.reply(200, json.dumps({"id": model, "sha": COMMIT, "siblings": siblings}))
            return
        rows = [
            {"type": "file", "path": path.relative_to(folder).as_posix(), "oid": oid(path),
             "size": path.stat().st_size}
            for path in self.hub.files_of(model)
        ]  # fmt: skip
        self.reply(200, json.dumps(rows))

    def send_file(self, model: str, name: str) -> None:
        path = self.hub.models[model] / name
        if not path.is_file():
            self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        content, headers = path.read_bytes(), {"ETag": f'"{oid(path)}"', "X-Repo-Commit": COMMIT}
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        status = 206 if start else 200
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cuts = self.hub.cut_at.get(name) if self.command == "GET" else None
        end = max(cuts.pop(0) - start, 0) if cuts else None
        self.reply(status, content[start:], headers, end)

    def reply(
        self, status: int, body: bytes | str, headers: Any = None, cut: int | None = None
    ) -> None:
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept, not printed."""


def oid(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def fake_hub(**models: Path) -> Iterator[FakeHub]:
    """A hub with models by name; `__` in a name stands for the slash."""
    hub = FakeHub({name.replace("__", "/"): folder for name, folder in models.items()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = hub  # type: ignore[attr-defined]
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
