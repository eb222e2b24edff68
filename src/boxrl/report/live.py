"""The page of a run that is still training, served on loopback and refreshing itself."""

from __future__ import annotations

import http.server
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any

from boxrl.errors import BoxrlError
from boxrl.guard.pages import HOST, is_own
from boxrl.guard.texts import visible
from boxrl.report.build import build_report
from boxrl.report.reading import read_run

PAGE = "report.html"
FILES = re.compile(r"/report_files/\d+\.(jpeg|webp)")
"""Paths of pictures that lie beside the page."""

KINDS = {".html": "text/html; charset=utf-8", ".jpeg": "image/jpeg", ".webp": "image/webp"}
MOST_CONNECTIONS = 64
"""At once; a browser opens six."""

SILENCE_S = 10.0
"""Seconds after which a connection that says nothing is closed."""

WATCHED = ("*.json*", "evals/*/*.json*")


class LivePage:
    """A page in a folder of its own, built again when the run has changed."""

    def __init__(self, run_dir: Path, folder: Path, images: Path | None = None) -> None:
        """Nothing is built before it is asked for.

        Args:
            run_dir: a run folder.
            folder: of the page.
            images: see `read_run`.

        Raises:
            UsageError: there is no such folder, or no run in it.
        """
        read_run(run_dir, images)
        self.run_dir, self.folder, self.images = run_dir, folder, images
        self._built = ""
        self._lock = Lock()

    def version(self) -> str:
        """Changes whenever a file of the run does."""
        files = sorted(file for pattern in WATCHED for file in self.run_dir.glob(pattern))
        stats = [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
        return f"{hash(tuple(stats)):x}"

    def refresh(self) -> None:
        """Build the page unless it is up to date."""
        with self._lock:
            version = self.version()
            if version != self._built:
                build_report(self.run_dir, self.folder / PAGE, live=True, images=self.images)
                self._built = version


@contextmanager
def serve(
    run_dir: Path, port: int = 0, images: Path | None = None
) -> Iterator[http.server.ThreadingHTTPServer]:
    """A server of the run's page, on loopback only; call its `serve_forever`.

    Args:
        run_dir: a run folder.
        port: 0 takes a free one.
        images: see `read_run`.

    Raises:
        UsageError: there is no such folder, or no run in it.
        OSError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="boxrl-") as folder:
        handler = partial(_Handler, live=LivePage(run_dir, Path(folder), images))
        with _Server((HOST, port), handler) as server:
            yield server


class _Server(http.server.ThreadingHTTPServer):
    """Holds so many connections and no more, and is silent about those that break."""

    request_queue_size = MOST_CONNECTIONS

    def __init__(self, *args: Any) -> None:
        self._free = BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves the page, its pictures and its version to its own page; nothing else."""

    timeout = SILENCE_S
    server: _Server

    def __init__(self, *args: Any, live: LivePage) -> None:
        self.live = live
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer requests that name this machine; others come from pages that guess."""
        hosts, origins = (self.headers.get_all(name, []) for name in ("Host", "Origin"))
        if not is_own(hosts, origins, self.server.server_port):
            self.send_error(403)
        elif self.path == "/version":
            self._send("text/plain; charset=utf-8", self.live.version().encode())
        elif self.path == "/":
            self._send_page()
        elif FILES.fullmatch(self.path):
            self._send_file(self.live.folder / self.path[1:])
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def _send_page(self) -> None:
        """The page, built now; what is wrong with the run where it cannot be."""
        try:
            self.live.refresh()
        except (BoxrlError, OSError) as error:
            self.send_error(503, explain=visible(str(error)))
            return
        self._send_file(self.live.folder / PAGE)

    def _send_file(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            self.send_error(404)
            return
        self._send(KINDS[path.suffix], content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line."""

    def end_headers(self) -> None:
        """A page that changes is not kept."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
