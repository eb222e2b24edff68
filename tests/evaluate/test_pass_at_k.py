import json
from dataclasses import replace
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.predictions import Prediction, PredictionsFile
from boxrl.data.samples import write_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate.pass_at_k import evaluate_draws
from boxrl.families import build_family
from boxrl.types import Object, Sample

PLAIN = build_family("plain")
CAT = Object((10.0, 10.0, 50.0, 50.0), "cat")
DETECTION = Sample("d", "d.png", 100, 100, "detection", ("cat",), (CAT,))
COUNTING = Sample("c", "c.png", 100, 100, "counting", ("cat",), (), "How many?", "2")


def box(x1: int, y1: int, x2: int, y2: int, label: str = "cat") -> str:
    item = f'{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}], "label": "{label}"}}'
    return f"<answer>[{item}]</answer>"


def rows(sample: Sample, *completions: str) -> dict[str, Prediction]:
    return {
        f"{sample.id}#{k}": Prediction(f"{sample.id}#{k}", text, 9, "stop")
        for k, text in enumerate(completions)
    }


RIGHT, NEAR, FAR = box(10, 10, 50, 50), box(10, 10, 50, 48), box(60, 60, 90, 90)


def test_figures_of_boxes() -> None:
    figures = evaluate_draws([DETECTION], rows(DETECTION, FAR, RIGHT, NEAR, "no box"), PLAIN)
    assert (figures["n"], figures["draws"]) == (1, 4)
    assert figures["pass@k"] == pytest.approx({"1": 0.5, "2": 1 - 1 / 6, "4": 1.0})
    assert figures["best_of_k_f1"]["4"] == 1.0
    assert figures["self_consistency"] == {"pass": 1.0, "f1": 1.0}


def test_agreement_can_be_wrong_together() -> None:
    figures = evaluate_draws([DETECTION], rows(DETECTION, FAR, RIGHT, FAR), PLAIN, [1, 3])
    assert figures["self_consistency"] == {"pass": 0.0, "f1": 0.0}
    assert figures["pass@k"] == pytest.approx({"1": 1 / 3, "3": 1.0})


def test_boxes_of_a_thought_that_the_prompt_opened_and_nobody_closed_are_no_answer() -> None:
    draws = rows(DETECTION, f"may be {RIGHT}", f"one</think>{RIGHT}")
    figures = evaluate_draws([DETECTION], draws, PLAIN, opened=True)
    assert figures["pass@k"] == {"1": 0.5, "2": 1.0}
    assert evaluate_draws([DETECTION], draws, PLAIN)["pass@k"]["1"] == 1.0


def test_a_negative_is_passed_by_saying_none_and_means_are_over_samples() -> None:
    negative = replace(DETECTION, id="n", objects=())
    none = "<answer>None</answer>"
    predictions = rows(DETECTION, RIGHT, RIGHT) | rows(negative, none, RIGHT)
    figures = evaluate_draws([DETECTION, negative], predictions, PLAIN)
    assert figures["pass@k"] == {"1": 0.75, "2": 1.0}


def test_answers_that_are_not_boxes_are_voted_on() -> None:
    answers = [f"<answer>{n}</answer>" for n in ("3", "2", " 2 ", "4")]
    figures = evaluate_draws([COUNTING], rows(COUNTING, *answers), PLAIN)
    assert figures["self_consistency"]["pass"] == 1.0
    assert figures["pass@k"]["1"] == 0.5


def test_what_is_no_file_of_draws_is_refused() -> None:
    single = {"d": Prediction("d", RIGHT, 9, "stop")}
    with pytest.raises(UsageError, match="boxrl predict --n 8"):
        evaluate_draws([DETECTION], single, PLAIN)
    with pytest.raises(UsageError, match="between 1 and the 2 draws"):
        evaluate_draws([DETECTION], rows(DETECTION, RIGHT, FAR), PLAIN, [3])
    other = replace(DETECTION, id="e")
    with pytest.raises(DataError, match=r"2 of 4 draws .*'e#0'"):
        evaluate_draws([DETECTION, other], rows(DETECTION, RIGHT, FAR), PLAIN)
    # The draws that the first sample had were those of all, whatever more the others had.
    fewer = rows(DETECTION, RIGHT, FAR) | rows(other, RIGHT, FAR, FAR, FAR)
    with pytest.raises(DataError, match=r"2 of 8 draws .*'d#2'"):
        evaluate_draws([DETECTION, other], fewer, PLAIN)
    failed = rows(DETECTION, RIGHT, FAR)
    failed["d#1"] = replace(failed["d#1"], finish_reason="error")
    with pytest.raises(DataError, match="1 of 2 draws"):
        evaluate_draws([DETECTION], failed, PLAIN)


def test_the_verb_prints_a_table_or_one_json_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_samples(tmp_path / "s.jsonl", [DETECTION])
    file = PredictionsFile(tmp_path / "p.jsonl", {"family": "plain"})
    file.append(rows(DETECTION, RIGHT, FAR).values())
    call = ["draws", "--samples", str(tmp_path / "s.jsonl"), "--predictions", str(file.path)]
    assert main([*call, "--json", "--k", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["pass@k"] == {"2": 1.0}
    assert main(call) == 0
    assert "best of 2" in capsys.readouterr().out
    assert main([*call, "--k", "two"]) == 2


def test_evaluate_says_what_to_run_on_several_completions_per_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_samples(tmp_path / "s.jsonl", [DETECTION])
    file = PredictionsFile(tmp_path / "p.jsonl", {"family": "plain"})
    file.append(rows(DETECTION, RIGHT, FAR).values())
    call = ["--samples", str(tmp_path / "s.jsonl"), "--predictions", str(file.path)]
    assert main(["evaluate", *call]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    verb, *words = told.rstrip().partition("; run: boxrl ")[2].split()
    assert (verb, words) == ("pass-at-k", call)
    assert main([verb, *words]) == 0
    assert "best of 2" in capsys.readouterr().out
