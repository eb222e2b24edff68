"""Whatever a pickle asks for, it gets plain data or one line; nothing of it runs."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from boxrl.errors import DataError
from boxrl.guard.unpickling import answers
from tests.guard.unpickling import hostile
from tests.guard.unpickling.assembly import again, keep, read, text, whole_pickle


def told(content: bytes) -> str:
    """The line by which a pickle is refused."""
    with pytest.raises(DataError) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


@pytest.mark.parametrize("kind", hostile.running(Path("x")))
def test_a_pickle_that_would_run_something_runs_nothing(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    assert "The file was not run" in told(hostile.running(marker)[kind])
    assert not marker.exists()


@pytest.mark.parametrize("kind", hostile.lying())
def test_an_array_cannot_claim_what_it_does_not_hold(kind: str) -> None:
    told(hostile.lying()[kind])


BOMBS = hostile.bombs()


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_costs_no_more_than_its_bytes(kind: str) -> None:
    content = BOMBS[kind]
    tracemalloc.start()
    told(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150 * len(content) + 1_000_000


def test_what_is_held_twice_is_read_twice() -> None:
    shared = b"](" + b"K\x07" * 50 + b"e" + keep(0)
    assert read(whole_pickle(b"](" + shared + again(0) + b"e")) == [[7] * 50] * 2
    long = text("x" * 5000) + keep(0) + again(0) + again(0)
    assert read(whole_pickle(b"](" + long + b"e")) == ["x" * 5000] * 3


def test_a_file_holds_at_most_so_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    content = whole_pickle(b"](" + b"K\x07" * 50 + b"e")
    read(content)
    monkeypatch.setattr(answers, "MAX_VALUES", 49)
    assert "unfolds to more than 49 values" in told(content)


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(content: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(answers, "run", run)
    assert "needs more than 4 GiB of memory" in told(b"N.")


LIMITED = "from boxrl.guard.unpickling.answers import _limit; _limit(); "


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize(
    ("wants", "said"),
    [
        ("bytearray(5 << 30)", "MemoryError"),
        ("import resource as r; print(r.getrlimit(r.RLIMIT_CPU), r.getrlimit(r.RLIMIT_CORE))",
         "(120, 120) (0, 0)"),
    ],
)  # fmt: skip
def test_the_process_that_reads_limits_itself(wants: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED + wants], capture_output=True, text=True)
    assert said in done.stdout + done.stderr


def test_it_starts_without_numpy_and_other_packages() -> None:
    loaded = "import boxrl.guard.unpickling.answers, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True)
    modules = done.stdout.split()
    assert "numpy" not in modules
    packages = {name.split(".")[1] for name in modules if name.startswith("boxrl.")}
    assert packages == {"errors", "guard"}
    assert "boxrl.guard.files" not in modules
