"""A file is written by one process at a time, and appears only when it is whole."""

import fcntl
import os

import pytest

from boxrl.data.files import locked, open_locked, write_atomic
from boxrl.errors import DataError, UsageError


def test_the_second_writer_of_a_file_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("boxrl.data.files.PATIENCE_S", 0.1)
    out = tmp_path / "samples.jsonl"
    with write_atomic(out) as first:
        first.write("first\n")
        with pytest.raises(UsageError, match=r"samples\.jsonl: another process"), write_atomic(out):
            pass
    assert out.read_text() == "first\n"
    assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]


def test_a_lock_ends_with_its_block_and_leaves_nothing(tmp_path):
    out = tmp_path / "new" / "p.jsonl"
    for _ in range(2):
        with locked(out), pytest.raises(UsageError, match="another process"), locked(out):
            pass
    assert not list(out.parent.iterdir())


def test_what_a_kill_left_is_replaced(tmp_path):
    out = tmp_path / "samples.jsonl"
    (tmp_path / ".samples.jsonl.partial").write_text("half a li")
    with write_atomic(out) as handle:
        handle.write("whole\n")
    assert out.read_text() == "whole\n"
    assert not (tmp_path / ".samples.jsonl.partial").exists()


def test_a_file_that_was_renamed_before_the_lock_was_had_is_opened_again(tmp_path, monkeypatch):
    path = tmp_path / "x"
    flock = fcntl.flock

    def rename_first(handle, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.rename(tmp_path / "done")
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", rename_first)
    with open_locked(path, path) as handle:
        assert os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    assert (tmp_path / "done").exists()


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with write_atomic(tmp_path / "x") as handle:
        handle.write("1")
    assert (tmp_path / "x").read_text() == "1"


def test_a_link_laid_in_the_way_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".x.partial").symlink_to(victim)
    with pytest.raises(DataError, match="x: cannot be written"), write_atomic(tmp_path / "x"):
        pass
    assert victim.read_text() == "precious"
