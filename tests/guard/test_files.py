"""Files made to be waited for, to fill the memory or to lead elsewhere: refused in one line."""

from __future__ import annotations

import math
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from boxrl.errors import DataError
from boxrl.guard.files import (
    MOST_JSON_VALUES,
    inside,
    parse_json_object,
    parse_yaml,
    read_bytes,
    read_json_object,
    read_text,
)

DECADE = "[x, x, x, x, x, x, x, x, x, x]"
LAUGHS = f"a: &a {DECADE}\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 10)}]}}\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    with path.open("wb") as handle:
        handle.truncate(2**33)


MADE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (pipe, "not a regular file"),
    "a device": (device, "not a regular file"),
    "a folder": (Path.mkdir, "not a regular file|Is a directory"),
    "8 GB of nothing": (large, "holds more than 64 MB"),
    "nothing": (lambda path: None, "No such file"),
    "a ring of links": (lambda path: path.symlink_to(path), "symbolic links"),
}


@pytest.mark.parametrize("kind", MADE)
def test_only_regular_files_of_bounded_size_are_read(kind: str, tmp_path: Path) -> None:
    make, said = MADE[kind]
    make(tmp_path / "run.json")
    for read in (read_bytes, read_text, read_json_object):
        began = time.process_time()
        with pytest.raises(DataError, match=said) as raised:
            read(tmp_path / "run.json")
        assert time.process_time() - began < 1
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "unfold to more than 100,000 values"),
        (MERGED, "unfold to more than 100,000 values"),
        ("train: &a {trl: *a}\n", "unfold to more than"),
        ("a: &a [*a, *a]\n", "unfold to more than"),
        ("a: " + "1:" * 400_000 + "1\n", "a number of 800,001 characters"),
        ("[" * 100_000, "recursion"),
        ("name: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("a: 1\na: 2\n", "duplicate key"),
        ("1: 2\n", "is not a valid key"),
        ("when: 2026-13-01\n", "month"),
    ],
)
def test_yaml_that_would_unfold_is_refused_before_it_is_built(text: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(yaml.YAMLError, match=said):
        parse_yaml(text)
    assert time.process_time() - began < 10


def test_yaml_reads_what_recipes_say() -> None:
    assert parse_yaml("a: &a {x: 1e-6, y: [1, yes]}\nb: [*a, null]\n") == {
        "a": {"x": 1e-6, "y": [1, True]},
        "b": [{"x": 1e-6, "y": [1, True]}, None],
    }
    assert parse_yaml("[0, -3, 1_000, 0x10, 0.5, 007.5, .inf]") == [
        0,
        -3,
        1000,
        16,
        0.5,
        7.5,
        math.inf,
    ]
    assert parse_yaml("# nothing\n") is None


@pytest.mark.parametrize("text", ["1:30", "-190:20:30", "1:30.5", "010", "+0_7"])
def test_a_number_of_another_base_is_no_number(text: str) -> None:
    """YAML 1.1 reads 1:30 as 90 and 010 as 8, which nobody means."""
    with pytest.raises(yaml.YAMLError, match=f"2: '{re.escape(text)}' is not a number"):
        parse_yaml(f"train:\n  max_steps: {text}\n")
    assert parse_yaml(f"'{text}'") == text


def test_json_of_too_many_values_is_refused_before_it_is_built() -> None:
    """60 MB of empty lists would take 2 GB and most of a minute."""
    code = (
        "import resource, time; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "from boxrl.errors import DataError\n"
        "from boxrl.guard.files import parse_json_object\n"
        "text = b'{\"a\": [' + b'[],' * 20_000_000 + b'[]]}'\n"
        "began = time.process_time()\n"
        "try: parse_json_object(text, 'x.json')\n"
        "except DataError as error: print(error, time.process_time() - began < 5)\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert made.stdout.startswith(f"x.json: not JSON (more than {MOST_JSON_VALUES:,} values) True")


def test_json_of_marks_inside_a_text_is_read() -> None:
    assert parse_json_object('{"completion": "[[,,{{"}', "x") == {"completion": "[[,,{{"}


def test_a_path_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run / "evals", other):
        folder.mkdir(parents=True)
    (run / "out").symlink_to(other)
    (run / "up").symlink_to("..")
    (run / "stays").symlink_to("evals")
    (run / "ring").symlink_to("ring")
    (tmp_path / "named").symlink_to(run)
    for name in ("evals", "new/not/there", "stays/x.json", "evals/../evals"):
        assert inside(run, run / name) == run / name
    assert inside(tmp_path / "named", tmp_path / "named" / "evals")
    for name in ("out", "out/x.json", "up/other", "../other", "ring", "/etc/passwd", "a\x00b"):
        with pytest.raises(DataError, match="leads out of"):
            inside(run, run / name)


def test_memory_of_refusing_a_large_file_is_bounded(tmp_path: Path) -> None:
    large(tmp_path / "x")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError):
        read_bytes(tmp_path / "x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
