"""What a call names and is not there."""

from pathlib import Path

import pytest

from boxrl.cli import main

GONE = "nowhere/gone.jsonl"
OUT = ("--out", "nowhere/out.jsonl")


@pytest.mark.parametrize(
    "call",
    [
        ("data", "lint", GONE),
        ("data", "lint", __file__, "--images", GONE),
        ("data", "mix", GONE, *OUT),
        ("data", "export", "coco", GONE, *OUT),
        ("data", "convert", "voc", "--annotations", GONE, "--images", ".", *OUT),
        ("score", "--completions", GONE, "--rewards", "f1"),
        ("evaluate", "--samples", __file__, "--predictions", GONE),
        ("coco-eval", "--annotations", GONE, "--predictions", __file__),
        ("predict", "--samples", GONE, "--images", ".", "--model", "tiny", *OUT),
        ("init", "--samples", __file__, "--validation", GONE, "--images", ".", "--model", "tiny"),
        ("doctor", "rewards", "--samples", GONE),
        ("benchmark", "run", "coco", "--data-root", GONE, "--out", "nowhere"),
    ],
    ids=lambda call: " ".join(call[:2]),
)
def test_a_file_that_is_not_there_is_a_wrong_call(
    call: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call) == 2
    assert capsys.readouterr().err == f"boxrl: {GONE}: no such file or folder\n"
    assert not Path("nowhere").exists()
