"""Disks that are full, read-only or not what was expected: one line, and nothing half written."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from boxrl.config import dump_recipe
from tests.faults.campaign import Record, assert_told, limit, run, whole_lines
from tests.faults.kills import many_samples, rows, same_rows
from tests.faults.writers import VERBS, writers
from tests.support.chat_server import chat_server
from tests.support.recipes import tiny_recipe

pytestmark = pytest.mark.slow

FULL = "full disk (a tmpfs)"
READ_ONLY = "read-only disk"


def mount(*words: str) -> None:
    if subprocess.run(["mount", *words], capture_output=True).returncode:
        pytest.skip("this user may mount no disk")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB; `fill` fills it, removing the filler frees it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, left: int = 0) -> Path:
    """Write until the disk is full, then give `left` bytes back."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(b"x" * 4096)
        except OSError:
            handle.truncate(max(handle.tell() - left, 0))
    return filler


def put_older(verb: str, site: Path, disk: Path, tmp_path: Path) -> str:
    """Put an older file of the verb's on the disk; returns what the verb writes, without paths."""
    elsewhere = tmp_path / "elsewhere"
    call, file = writers(site, elsewhere)[verb]
    assert run(*call).status == 0
    written = (elsewhere / file).read_text().replace(str(elsewhere), "")
    (disk / file).parent.mkdir(exist_ok=True)
    if verb != "data lint":  # which writes over nothing
        (disk / file).write_text(f"{written}what stood there before\n")
    return written


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk(verb: str, site: Path, disk: Path, tmp_path: Path, record: Record) -> None:
    record.folder = disk
    call, file = writers(site, disk)[verb]
    written = put_older(verb, site, disk, tmp_path)
    filler = fill(disk)
    outcome = record.refused(FULL, "no byte left", call, "No space left on device")
    assert outcome.status == 1
    assert not list(disk.rglob(".*"))
    filler.unlink()
    assert run(*call).status == 0
    assert (disk / file).read_text().replace(str(disk), "") == written


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_disk(
    verb: str, site: Path, disk: Path, tmp_path: Path, record: Record
) -> None:
    record.folder = disk
    call, _ = writers(site, disk)[verb]
    put_older(verb, site, disk, tmp_path)
    mount("-o", "remount,ro", str(disk))
    record.refused(READ_ONLY, "remounted read-only", call, "Read-only file system")


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_where_a_folder_is_expected(
    verb: str, site: Path, tmp_path: Path, record: Record
) -> None:
    (tmp_path / "file").write_text("no folder\n")
    call, _ = writers(site, tmp_path / "file")[verb]
    record.refused("no folder", "a file stands where the folder should", call, "file")


@pytest.mark.parametrize("left", [0, 8192])
def test_predict_on_a_full_disk(
    left: int, scene_folder: Path, disk: Path, tmp_path: Path, record: Record
) -> None:
    record.folder = disk
    samples = many_samples(scene_folder, tmp_path, 4)
    with chat_server() as server:
        call: list[object] = ["predict", "--engine", "openai", "--model", "m", "--family", "plain",
                "--samples", samples, "--images", tmp_path / "images", "--concurrency", 1,
                "--base-url", server.url]  # fmt: skip
        assert run(*call, "--out", tmp_path / "whole.jsonl").status == 0
        filler = fill(disk, left)
        out = disk / "p.jsonl"
        outcome = run(*call, "--out", out)
        assert_told(outcome, "No space left on device")
        finished = whole_lines(out)
        assert bool(finished) == bool(left)
        filler.unlink()
        assert run(*call, "--out", out).status == 0
    lost = [row for row in finished if row not in out.read_text().splitlines()]
    record(FULL, "predict", f"{left} bytes left", outcome.line, lost, len(finished), "rows")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_file_size_limit_stops_predict_without_a_loss(
    scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    samples = many_samples(scene_folder, tmp_path, 4)
    out = tmp_path / "p.jsonl"
    with chat_server() as server:
        call: list[object] = ["predict", "--engine", "openai", "--model", "m", "--family", "plain",
                "--samples", samples, "--images", tmp_path / "images", "--concurrency", 1,
                "--base-url", server.url]  # fmt: skip
        outcome = run(*call, "--out", out, preexec_fn=limit(resource.RLIMIT_FSIZE, 4096))
        assert_told(outcome, "File too large")
        finished = whole_lines(out)
        assert finished
        assert run(*call, "--out", out).status == 0
    lost = [row for row in finished if row not in out.read_text().splitlines()]
    how = "quota: files may have 4 KiB"
    record("full disk (a limit)", "predict", how, outcome.line, lost, len(finished), "rows")


@pytest.mark.parametrize(
    ("checkpoints", "hint"),
    [(0.5, "start again with --resume"), (1.5, "continue from checkpoint-2 with --resume")],
)
def test_train_on_a_full_disk_goes_on_from_the_last_whole_checkpoint(
    checkpoints: float, hint: str, scene_folder: Path, tmp_path: Path, record: Record
) -> None:
    out = tmp_path / "run"
    written = tmp_path / "recipe.yaml"
    recipe = tiny_recipe(scene_folder, out, max_steps=6, save_steps=2, prompts_per_step=2)
    written.write_text(dump_recipe(recipe))
    assert run("train", written, "train.max_steps=2", f"out={tmp_path / 'probe'}").status == 0
    files = (tmp_path / "probe/checkpoints/checkpoint-2").rglob("*")
    size = sum(path.stat().st_size for path in files if path.is_file())
    out.mkdir()
    mount("-t", "tmpfs", "-o", f"size={int(size * checkpoints)}", "tmpfs", str(out))
    try:
        outcome = run("train", written)
        assert_told(outcome, "stopped at step", hint)
        before = rows(out / "metrics.jsonl")
        mount("-o", f"remount,size={size * 9}", str(out))
        assert run("train", written, "--resume").status == 0
        after = rows(out / "metrics.jsonl")
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)
    lost = same_rows(after, before)
    how = f"room for {checkpoints:g} checkpoints, then --resume"
    record(FULL, "train", how, outcome.line, lost, len(before), "steps")
    assert len(after) == 6


@pytest.mark.parametrize("verb", ["train", "quickstart"])
def test_a_run_folder_on_a_read_only_disk(
    verb: str, site: Path, disk: Path, record: Record
) -> None:
    record.folder = disk
    mount("-o", "remount,ro", str(disk))
    call: dict[str, list[object]] = {
        "train": ["train", site / "recipe.yaml", f"out={disk / 'run'}"],
        "quickstart": ["quickstart", "--out", disk / "run"],
    }
    record.refused(READ_ONLY, "remounted read-only", call[verb], "Read-only file system")
