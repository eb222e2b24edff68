from pathlib import Path

import pytest

from boxrl.data.predictions import (
    Prediction,
    PredictionsFile,
    meta_path,
    parse_prediction,
    read_predictions,
    render_prediction,
)
from boxrl.errors import DataError, UsageError

A = Prediction("a", "<answer>None</answer>", 5, "stop", (112, 112), (-0.5, -1.25))
B = Prediction("b", "cut", 96, "length")
FAILED = Prediction("b", "", 0, "error", error="timed out")


def test_a_prediction_survives_its_line(tmp_path: Path) -> None:
    file = PredictionsFile(tmp_path / "p.jsonl", {})
    file.append([A, B])
    assert read_predictions(tmp_path / "p.jsonl") == {"a": A, "b": B}


def test_a_line_cut_by_a_crash_is_removed_and_generated_again(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PredictionsFile(path, {"model": "m"}).append([A])
    with path.open("a") as handle:
        handle.write(render_prediction(B)[:-7])
    assert read_predictions(path) == {"a": A}
    resumed = PredictionsFile(path, {"model": "m"})
    assert set(resumed.done) == {"a"}
    resumed.append([B])
    assert read_predictions(path) == {"a": A, "b": B}


def test_a_row_that_ended_in_error_is_not_done_and_the_later_row_counts(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PredictionsFile(path, {}).append([A, FAILED])
    resumed = PredictionsFile(path, {})
    assert set(resumed.done) == {"a"}
    resumed.append([B])
    assert read_predictions(path)["b"] == B


def test_changed_settings_are_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PredictionsFile(path, {"prompt": "standard", "model": "m"}).append([A])
    with pytest.raises(UsageError, match="prompt: 'standard' there, 'enhanced' now"):
        PredictionsFile(path, {"prompt": "enhanced", "model": "m"})
    assert read_predictions(path) == {"a": A}


def test_a_run_that_failed_before_its_first_row_may_be_repeated_with_other_settings(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.jsonl"
    PredictionsFile(path, {"prompt": "standard"})
    PredictionsFile(path, {"prompt": "enhanced"}).append([A])
    with pytest.raises(UsageError, match="prompt: 'enhanced' there"):
        PredictionsFile(path, {"prompt": "standard"})


def test_a_run_whose_rows_all_failed_may_be_repeated_with_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PredictionsFile(path, {"sampling": {"n": 1, "seed": 0}}).append([FAILED])
    PredictionsFile(path, {"sampling": {"n": 1, "seed": 1}}).append([A])
    assert read_predictions(path) == {"a": A}
    with pytest.raises(UsageError, match=r"settings \(sampling.seed: 1 there, 0 now\)"):
        PredictionsFile(path, {"sampling": {"n": 1, "seed": 0}})


def test_a_finished_file_is_put_into_order_one_row_per_id(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    file = PredictionsFile(path, {})
    other = Prediction("other", "x", 1, "stop")
    file.append([other, FAILED, B, A])
    file.arrange(["a", "never asked", "b"])
    assert list(read_predictions(path).values()) == [A, B, other]
    assert len(path.read_text().splitlines()) == 3
    before = path.stat().st_ino
    file.arrange(["a", "b"])
    assert path.stat().st_ino == before


def test_predictions_without_their_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PredictionsFile(path, {}).append([A])
    meta_path(path).unlink()
    with pytest.raises(UsageError, match="settings are unknown"):
        PredictionsFile(path, {})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a"}, "needs an id and a completion"),
        ({"id": "a", "completion": "", "n_tokens": -1}, "n_tokens must be an integer >= 0"),
        ({"id": "a", "completion": "", "finish_reason": "bored"}, "expected stop, length or error"),
        ({"id": "a", "completion": "", "input_size_wh": [0, 2]}, "input_size_wh must be"),
        ({"id": "a", "completion": "", "box_logprobs": ["x"]}, "box_logprobs must be"),
    ],
)
def test_a_bad_row_is_named_with_its_line(row: dict, message: str) -> None:
    with pytest.raises(DataError, match=f"^p.jsonl:3: .*{message}"):
        parse_prediction(row, "p.jsonl:3")


def test_a_whole_last_row_counts_without_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f"{render_prediction(A)}\n{render_prediction(B)}")
    assert read_predictions(path) == {"a": A, "b": B}


def test_a_last_row_without_its_newline_is_generated_again(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PredictionsFile(path, {}).append([A])
    with path.open("a") as handle:
        handle.write(render_prediction(B))
    resumed = PredictionsFile(path, {})
    assert set(resumed.done) == {"a"}
    resumed.append([B])
    assert read_predictions(path) == {"a": A, "b": B}


def test_two_answers_to_one_sample_are_no_run(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    other = Prediction("a", "another answer", 5, "stop")
    path.write_text("".join(render_prediction(row) + "\n" for row in (A, A, other)))
    with pytest.raises(DataError, match=r"p\.jsonl:3: duplicate id 'a'"):
        read_predictions(path)
