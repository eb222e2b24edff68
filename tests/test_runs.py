import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import boxrl
from boxrl.errors import DataError, UsageError
from boxrl.runs import Launch, Run, note_end, numbered_folder, read_facts

FACTS = {"name": "x", "method": "grpo"}


def status(path: Path) -> str:
    return json.loads((path / "run.json").read_text())["status"]


def test_a_run_says_whether_it_is_running_done_or_interrupted(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "name: x\n", FACTS, resume=False):
        assert status(tmp_path / "r") == "running"
    assert status(tmp_path / "r") == "done"
    with (
        pytest.raises(KeyboardInterrupt),
        Run(tmp_path / "r", "name: x\n", FACTS, resume=True),
    ):
        raise KeyboardInterrupt
    assert status(tmp_path / "r") == "interrupted"


def test_a_killed_run_is_interrupted(tmp_path: Path) -> None:
    words = f"""
import os, signal
from pathlib import Path
from boxrl.runs import Run, read_facts
run = Run(Path({str(tmp_path / "r")!r}), "name: x\\n", {{"name": "x"}}, resume=False)
assert read_facts(run.path / "run.json")["status"] == "running"
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", words]).returncode == -signal.SIGKILL
    assert status(tmp_path / "r") == "running"
    facts = read_facts(tmp_path / "r" / "run.json")
    assert facts == {"name": "x", "status": "interrupted"}
    note_end(tmp_path / "r")
    assert status(tmp_path / "r") == "interrupted"
    note_end(tmp_path / "elsewhere")  # where no run has begun


def test_a_run_without_a_lock_is_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "running"}')
    assert read_facts(tmp_path / "run.json")["status"] == "running"


def test_another_run_in_the_folder_is_not_overwritten(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "name: x\n", FACTS, resume=False):
        pass
    before = (tmp_path / "r" / "run.json").read_bytes()
    with pytest.raises(UsageError, match="holds another run"):
        Run(tmp_path / "r", "name: y\n", {"name": "y"}, resume=False)
    with pytest.raises(UsageError, match="another recipe: name: x, now y; resume"):
        Run(tmp_path / "r", "name: y\n", {"name": "y"}, resume=True)
    assert (tmp_path / "r" / "run.json").read_bytes() == before


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match="is not empty and holds no run"):
        Run(tmp_path, "name: x\n", FACTS, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_resuming_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        Run(tmp_path / "r", "name: x\n", FACTS, resume=True)


def test_two_processes_cannot_write_to_one_run(tmp_path: Path) -> None:
    with (
        Run(tmp_path / "r", "name: x\n", FACTS, resume=False),
        pytest.raises(UsageError, match="another process is writing"),
    ):
        Run(tmp_path / "r", "name: x\n", FACTS, resume=True)


def test_environment_names_versions_and_platform(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "name: x\n", FACTS, resume=False):
        pass
    environment = json.loads((tmp_path / "r" / "environment.json").read_text())
    assert environment["versions"]["numpy"]
    assert environment["platform"]


def test_runs_without_a_named_folder_never_share_one(tmp_path: Path) -> None:
    first = tmp_path / "x-grpo"
    assert numbered_folder(first, resume=False) == first
    first.mkdir()
    second = tmp_path / "x-grpo-2"
    assert numbered_folder(first, resume=False) == second
    assert numbered_folder(first, resume=True) == first
    second.mkdir()
    assert numbered_folder(first, resume=True) == second


def test_a_start_that_failed_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError), Run(tmp_path / "r", "name: x\n", FACTS, resume=False):
        raise DataError("no image")
    assert not (tmp_path / "r").exists()


def test_a_run_that_failed_with_results_keeps_them(tmp_path: Path) -> None:
    with pytest.raises(DataError), Run(tmp_path / "r", "name: x\n", FACTS, resume=False):
        (tmp_path / "r" / "metrics.jsonl").write_text("{}\n")
        raise DataError("disk full")
    assert status(tmp_path / "r") == "interrupted"


def test_a_damaged_run_json_is_one_line(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "name: x\n", FACTS, resume=False):
        pass
    (tmp_path / "r" / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: not JSON"):
        Run(tmp_path / "r", "name: x\n", FACTS, resume=True)


def test_the_process_of_a_launch_is_read_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Launch.read() == (0, 1, 0)
    assert Launch.read().is_first
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Launch.read() == (3, 4, 1)
    assert not Launch.read().is_first
    source = Path(boxrl.__file__).parent
    asked = {'"RANK"', '"WORLD_SIZE"', '"LOCAL_RANK"'}
    readers = [
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if asked & set(re.findall(r'"[A-Z_]+"', path.read_text("utf-8")))
    ]
    assert readers == ["runs.py"]
