"""`boxrl predict --engine openai` as its tests call it, and the engine by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boxrl.families import build_family
from boxrl.generation.endpoint import Endpoint
from boxrl.generation.questions import Questions
from boxrl.generation.servers import Retry, Servers
from boxrl.prompts import PROMPTS
from tests.support.chat_server import ChatServer

KEY = "sk-very-secret-0123456789"
QUICK = Retry(attempts=7, first_s=0.01, longest_s=0.05)


def call(scene_folder: Path, out: Path, *more: str) -> list[str]:
    return [
        "predict", "--engine", "openai", "--family", "plain", "--model", "served",
        *("--samples", str(scene_folder / "samples.jsonl")),
        *("--images", str(scene_folder / "images")),
        *("--out", str(out), *more),
    ]  # fmt: skip


def endpoint(scene_folder: Path, *servers: ChatServer, **options: Any) -> Endpoint:
    questions = Questions(build_family("plain"), PROMPTS["standard"], scene_folder / "images")
    urls = [server.url for server in servers]
    timeout_s = options.pop("timeout_s", 20.0)
    return Endpoint(
        questions, Servers(urls, KEY, 8, timeout_s=timeout_s, retry=QUICK), "served", **options
    )
