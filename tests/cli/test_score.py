"""`boxrl score` and `boxrl doctor rewards`."""

import json
from pathlib import Path
from typing import Any

import pytest

from boxrl.cli import main

RIGHT = '<think>a</think><answer>[{"bbox_2d": [0, 0, 9, 9], "label": "cat"}]</answer>'
ROW = {"id": "a", "completion": RIGHT, "objects": [{"bbox": [0, 0, 9, 9], "label": "cat"}]}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_score_writes_one_row_per_completion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sized = {**ROW, "id": "b", "width": 9, "height": 9, "n_tokens": 1024}
    completions = write(tmp_path / "c.jsonl", ROW, sized)
    out = tmp_path / "out" / "rewards.jsonl"
    names = "f1,cosine,choice"
    status = main(
        ["score", "--completions", completions, "--rewards", names, "--out", str(out), "--json"]
    )
    assert status == 0
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"id": "a", "rewards": {"f1": 1.0, "cosine": None, "choice": None}},
        {"id": "b", "rewards": {"f1": 1.0, "cosine": 0.5, "choice": None}},
    ]
    printed = json.loads(capsys.readouterr().out)
    assert printed["n"] == 2
    assert printed["rewards"]["f1"] == {"n": 2, "mean": 1.0, "std": 0.0, "min": 1.0, "max": 1.0}
    assert printed["rewards"]["choice"]["n"] == 0


def test_completions_that_begin_inside_a_thought_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = {**ROW, "completion": RIGHT.removeprefix("<think>")}
    for rows, told in ((2, ["2 of 3 completions end a thought that they do not begin"]), (1, [])):
        path = write(tmp_path / "c.jsonl", *[begun] * rows, *[ROW] * (3 - rows))
        assert main(["score", "--completions", path, "--rewards", "format", "--json"]) == 0
        hints = json.loads(capsys.readouterr().out)["hints"]
        assert [hint.partition(":")[0] for hint in hints] == told


def test_score_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    completions = write(tmp_path / "c.jsonl", ROW)
    assert main(["score", "--completions", completions, "--rewards", "f1"]) == 0
    assert "1.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {**ROW, "objects": [{"bbox": [5, 5, 5, 9], "label": "a"}]},
            "c.jsonl:2: bbox [5, 5, 5, 9]",
        ),
        ({**ROW, "objects": None}, "c.jsonl:2: objects must be a list"),
        (
            {"id": "a", "completion": RIGHT},
            "c.jsonl:2: no field objects; predictions of boxrl predict are scored by boxrl eval",
        ),
        ({**ROW, "input_size_wh": [9]}, "c.jsonl:2: input_size_wh must be [width, height], got"),
        ({**ROW, "completion": None}, "c.jsonl:2: a row needs an id and a completion"),
        ({**ROW, "width": 9}, "c.jsonl:2: width 9 and height None"),
        ({**ROW, "n_tokens": -1}, "c.jsonl:2: n_tokens must be an integer >= 0, got -1"),
        ([1], "c.jsonl:2: expected a JSON object"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Any, message: str
) -> None:
    completions = write(tmp_path / "c.jsonl", ROW, row)
    assert main(["score", "--completions", completions, "--rewards", "ap"]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ("appp", "unknown reward 'appp'; rewards: format, ap,"),
        ("appp,iou,f2", "unknown rewards 'appp', 'f2'; rewards: format, ap,"),
        ("ap,ap", "duplicate reward in ap, ap"),
    ],
)
def test_a_wrong_reward_is_a_wrong_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rewards: str, message: str
) -> None:
    completions = write(tmp_path / "c.jsonl", ROW)
    assert main(["score", "--completions", completions, "--rewards", rewards]) == 2
    assert message in capsys.readouterr().err


def test_completions_in_the_frame_of_their_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = {**ROW, "completion": RIGHT.replace("9, 9", "500, 250"), "width": 18, "height": 36}
    path = write(tmp_path / "c.jsonl", grid)
    call = ["score", "--completions", path, "--rewards", "iou"]
    assert main([*call, "--family", "qwen3-vl"]) == 0
    printed = capsys.readouterr().out
    assert "1 completion, family qwen3-vl" in printed and "1.000" in printed
    assert main([*call, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)["rewards"]["iou"]["mean"]
    assert plain == pytest.approx(81 / (18 * 36))
    assert main([*call, "--family", "qwen"]) == 2
    assert "families: plain, " in capsys.readouterr().err
    unsized = write(tmp_path / "c.jsonl", ROW)
    assert main(["score", "--completions", unsized, "--rewards", "iou", "--family", "gemma"]) == 1
    assert "c.jsonl:1: no width and height, which family 'gemma' needs" in capsys.readouterr().err


def test_the_size_that_the_model_saw_may_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resized = {**ROW, "completion": RIGHT.replace("9, 9", "18, 18"), "width": 56, "height": 56}
    path = write(tmp_path / "c.jsonl", {**resized, "input_size_wh": [112, 112]}, resized)
    out = tmp_path / "r.jsonl"
    call = ["score", "--completions", path, "--rewards", "iou", "--family", "qwen2.5-vl"]
    assert main([*call, "--out", str(out)]) == 0
    values = [json.loads(line)["rewards"]["iou"] for line in out.read_text().splitlines()]
    assert values == pytest.approx([1.0, 0.25])


def test_no_completions_is_bad_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    completions = write(tmp_path / "c.jsonl")
    assert main(["score", "--completions", completions, "--rewards", "ap"]) == 1
    assert "holds no completions" in capsys.readouterr().err


def test_doctor_rewards_names_the_leaks(
    scene_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = str(scene_folder / "samples.jsonl")
    assert main(["doctor", "rewards", "--samples", samples, "--limit", "5"]) == 0
    printed = capsys.readouterr().out
    assert "ap overpays junk last" in printed
    assert "f1 overpays none of these" in printed


def test_doctor_rewards_as_json(scene_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = str(scene_folder / "samples.jsonl")
    assert main(["doctor", "rewards", "--samples", samples, "--rewards", "iou", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["n"] == 12
    assert results["rewards"]["iou"]["probes"]["gold"]["mean"] == 1.0


def test_doctor_rewards_needs_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = {
        "id": "1", "image": "1.jpg", "width": 9, "height": 9, "task": "counting",
        "labels": ["cat"], "objects": [], "question": "How many?", "answer": "2",
    }  # fmt: skip
    samples = write(tmp_path / "s.jsonl", question)
    assert main(["doctor", "rewards", "--samples", samples]) == 1
    assert "no detection or grounding samples" in capsys.readouterr().err
