"""The page of a run that is still training, served on loopback and refreshing itself."""

from __future__ import annotations

import http.server
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from boxrl.errors import BoxrlError
from boxrl.report.build import build_report
from boxrl.report.reading import read_run
from boxrl.report.text import visible

HOST = "127.0.0.1"
PAGE = "report.html"
WATCHED = ("*.json*", "evals/*/*.json*")


class LivePage:
    """A page in a folder of its own, built again when the run has changed."""

    def __init__(self, run_dir: Path, folder: Path) -> None:
        """Nothing is built before it is asked for.

        Raises:
            UsageError: there is no such folder, or no run in it.
        """
        read_run(run_dir)
        self.run_dir, self.folder = run_dir, folder
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
                build_report(self.run_dir, self.folder / PAGE, live=True)
                self._built = version


@contextmanager
def serve(run_dir: Path, port: int = 0) -> Iterator[http.server.ThreadingHTTPServer]:
    """A server of the run's page, on loopback only; call its `serve_forever`.

    Args:
        run_dir: a run folder.
        port: 0 takes a free one.

    Raises:
        UsageError: there is no such folder, or no run in it.
        OSError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="boxrl-") as folder:
        live = LivePage(run_dir, Path(folder))
        handler = partial(_Handler, live=live, directory=folder)
        with http.server.ThreadingHTTPServer((HOST, port), handler) as server:
            yield server


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the page, its pictures and its version; nothing else of the machine."""

    def __init__(self, *args: Any, live: LivePage, **kwargs: Any) -> None:
        self.live = live
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Answer requests that name this machine; others come from pages that guess."""
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in (HOST, "localhost"):
            self.send_error(403)
        elif self.path == "/version":
            self._send_text(self.live.version())
        elif self.path == "/":
            self._send_page()
        else:
            super().do_GET()

    def _send_page(self) -> None:
        """The page, built now; what is wrong with the run where it cannot be."""
        try:
            self.live.refresh()
        except (BoxrlError, OSError) as error:
            self.send_error(503, explain=visible(str(error)))
            return
        self.path = f"/{PAGE}"
        super().do_GET()

    def list_directory(self, path: Any) -> None:
        """Folders are not listed."""
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line."""

    def end_headers(self) -> None:
        """A page that changes is not kept."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def _send_text(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
