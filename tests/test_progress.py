"""The progress bar on a narrow terminal."""

from __future__ import annotations

import pytest
from rich.progress import Task

from boxrl.progress import progress_bar

FIGURES = "format 0.98  f1 0.64  length 0.22  repetition 1.00"


@pytest.mark.parametrize("speed", [0.01, 0.08, 123.4])
@pytest.mark.parametrize(("done", "total"), [(7, 100), (123456, 654321)])
def test_a_bar_stays_on_one_line_of_80_columns(
    done: int,
    total: int,
    speed: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(Task, "speed", property(lambda _: speed))
    with progress_bar("convert refcoco+", total, done) as bar:
        bar.note(FIGURES)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert len(lines[0]) <= 80
    assert f"{done}/{total}" in lines[0]
    assert ("s/it" if speed < 1 else "123.4/s") in lines[0]
    assert " left " in lines[0]


def test_a_process_beside_the_first_draws_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("sft own", 9, shown=False) as bar:
        bar.advance()
        bar.note(FIGURES)
    assert "sft own" not in capsys.readouterr().err
