"""A hidden key is found however it is spelled, and leaves by no stream and no file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from boxrl.data.files import write_atomic, write_json
from boxrl.guard import secrets
from boxrl.guard.secrets import hide, redact

KEY = 'sk-Zq7xvN0"Key\\3141_'
SPELLED: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "JSON": json.dumps,
    "JSON twice": lambda key: json.dumps(json.dumps(key)).replace("\\" * 4, "\\"),
    "repr": repr,
    "repr of bytes": lambda key: repr(key.encode()),
    "a URL": quote,
    "a URL, all of it": lambda key: "".join(f"%{ord(c):02X}" for c in key),
    "JSON escapes": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "repr escapes": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "zero-width spaces": "\u200b".join,
    "repr of zero-width spaces": lambda key: repr("\u200b".join(key).encode()),
    "JSON of zero-width spaces": lambda key: json.dumps("\u2060\u00ad".join(key)),
    "tag characters": "\U000e0041".join,
    "variation selectors": "\ufe0f".join,
    "spaces": " ".join,
    "lines": "\r\n".join,
    "a terminal's line breaks": lambda key: f"{key[:9]}\n{key[9:]}",
}


@pytest.fixture(autouse=True)
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_hidden", {})
    hide(KEY)


@pytest.mark.parametrize("spelled", SPELLED)
def test_a_key_is_found_however_it_is_spelled(spelled: str) -> None:
    text = SPELLED[spelled](KEY)
    assert redact(f"Bearer {text}, no?").replace('"', "").replace("'", "") in (
        "Bearer ***, no?", "Bearer b***, no?", "Bearer \\***\\, no?"
    )  # fmt: skip


def test_text_without_the_key_stays_as_it_is() -> None:
    for text in ("", "sk-Zq7xvN0", "s k-", '[{"bbox_2d": [1, 2, 3, 4], "label": "key"}]', KEY[:-1]):
        assert redact(text) == text


def test_a_short_word_is_no_key() -> None:
    for word in ("EMPTY", "none", "1"):
        hide(word)
        assert redact(f"the {word} box") == f"the {word} box"


def test_several_keys_are_hidden() -> None:
    hide("another-key")
    assert redact(f"{KEY} another-key") == "*** ***"


def test_looking_for_a_key_takes_time_in_proportion() -> None:
    hide("ssssssssssssssss")
    hide("a\\\\\\\\b")
    parts = ("s\u200b", "s", "\u200b", "\\u0073", "sk-", "\\", "a\\", "%73")
    for text in (*(part * 300_000 for part in parts), ("a" + "\\" * 999) * 300):
        began = time.monotonic()
        redact(text)
        assert time.monotonic() - began < 5


def test_files_hold_no_key(tmp_path: Path) -> None:
    write_json(tmp_path / "meta.json", {"extra_body": {"key": KEY}, "argv": [f"x={KEY}"]})
    with write_atomic(tmp_path / "a.txt") as handle:
        handle.writelines(["a ", KEY])
        handle.write(KEY)
    assert json.loads((tmp_path / "meta.json").read_text()) == {
        "extra_body": {"key": "***"},
        "argv": ["x=***"],
    }
    assert (tmp_path / "a.txt").read_text() == "a ******"


def test_streams_show_no_key_in_prints_tracebacks_logs_and_warnings() -> None:
    code = f"""
import logging, sys, warnings
from rich.console import Console
from boxrl.guard.secrets import hide, redact_streams
redact_streams()
redact_streams()
key = {KEY!r}
hide(key)
print("printed", key, file=sys.stderr)
print("\\u200b".join(key))
Console(width=12, force_terminal=True).print(key)
logging.basicConfig(level=0)
logging.info(key)
warnings.warn(key)
try:
    raise OSError(key)
except OSError as error:
    raise ValueError(f"again {{error}}") from error
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    for text in (done.stdout, done.stderr):
        flat = "".join(text.split()).replace("\u200b", "")
        assert KEY not in flat
        assert "***" in flat
    assert "ValueError: again ***" in done.stderr
    assert "INFO:root:***" in done.stderr
