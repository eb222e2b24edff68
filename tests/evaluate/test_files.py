"""An evaluation on disk: one truth, refused where its parts do not belong together."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boxrl.cli import main
from boxrl.data.predictions import PredictionsFile, read_predictions
from boxrl.data.samples import write_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate import compare, evaluate
from boxrl.evaluate.files import read_evaluation, write_evaluation
from boxrl.evaluate.judging import Question, judge
from boxrl.evaluate.rows import decode_row, encode_row
from boxrl.parsing import parse
from boxrl.types import Asked
from tests.support.evaluations import PLAIN, QWEN, SCENES, A, B, answer, prediction, sample, spoil

OLD = Path(__file__).parents[1] / "golden" / "written_by_0_1_0"
SETTINGS = {"family": "qwen2.5-vl", "prompt": "standard", "samples": "data/test.jsonl"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose one evaluation, `val`, was made from the command line."""
    write_samples(tmp_path / "run" / "data" / "test.jsonl", SCENES[:12])
    folder = tmp_path / "run" / "evals" / "val"
    PredictionsFile(folder / "predictions.jsonl", SETTINGS).append(
        spoil(SCENES[:12], 0.5, 5).values()
    )
    call = ["--samples", tmp_path / "run/data/test.jsonl", "--out", folder]
    call += ["--predictions", folder / "predictions.jsonl", "--resamples=0"]
    assert main(["evaluate", *map(str, call)]) == 0
    return tmp_path / "run"


def test_an_evaluation_records_the_files_that_it_is_of(run: Path) -> None:
    folder = run / "evals" / "val"
    files = json.loads((folder / "metrics.json").read_text())["files"]
    names = {"samples": "data/test.jsonl", "predictions": "predictions.jsonl", "rows": "rows.jsonl"}
    assert {name: files[name]["path"] for name in names} == names  # from itself, or from its run
    for name, path in {"samples": run / names["samples"], "rows": folder / "rows.jsonl"}.items():
        assert files[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def cut_rows(folder: Path) -> None:
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(lines[:-1]))


def change_a_row(folder: Path) -> None:
    text = (folder / "rows.jsonl").read_text()
    (folder / "rows.jsonl").write_text(text.replace('"kind":"right"', '"kind":"background"', 1))


def lose_the_rows(folder: Path) -> None:
    (folder / "rows.jsonl").unlink()


def count_other_samples(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"n": 80}))


def change_the_samples(folder: Path) -> None:
    write_samples(folder.parents[1] / "data" / "test.jsonl", SCENES[1:13])


def change_a_prediction(folder: Path) -> None:
    path = folder / "predictions.jsonl"
    path.write_text(path.read_text().replace("<think>", "<think>so ", 1))


@pytest.mark.parametrize(
    ("disagree", "words"),
    [
        (cut_rows, "metrics.json counts 12 samples, its rows are 11"),
        (change_a_row, "rows.jsonl: has changed since"),
        (lose_the_rows, "rows.jsonl: is missing"),
        (count_other_samples, "metrics.json counts 80 samples, its rows are 12"),
        (change_the_samples, "data/test.jsonl: has changed since"),
        (change_a_prediction, "predictions.jsonl: has changed since"),
    ],
)
@pytest.mark.parametrize("verb", ["report", "compare"])
def test_parts_that_disagree_are_refused_in_one_line(
    verb: str,
    disagree: Callable[[Path], None],
    words: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = run / "evals" / "val"
    disagree(folder)
    page = run.parent / "page.html"
    calls = {"report": ["report", str(run)], "compare": ["compare", str(run), str(run)]}
    assert main([*calls[verb], "--out", str(page)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said
    step = said.rstrip().partition("redo it: boxrl ")[2].split()
    assert not page.exists()
    if disagree is not change_the_samples:  # whose answers are for other samples now
        assert main(step) == 0
        assert main([*calls[verb], "--out", str(page)]) == 0


def test_rows_of_other_samples_than_the_predictions_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a record, as a script writes them."""
    folder = run / "evals" / "val"
    others = evaluate(SCENES[20:32], spoil(SCENES[20:32], 0.5, 5), QWEN, resamples=0)
    write_evaluation(folder, others)
    assert main(["report", str(run)]) == 1
    said = capsys.readouterr().err
    assert f"its rows judge sample {SCENES[20].id!r}, which its predictions do not answer" in said


def test_a_whole_row_survives_the_disk_with_all_that_was_read() -> None:
    """So that nobody has to parse the completion again."""
    asked = sample("1", (A, "cat"), meta={"others": [{"bbox": B, "label": "bird"}]})
    texts = [
        answer((A, "cat"), (A, "Cat "), (B, "dog"), ([5.0, 5.0, 5.0, 9.0], "cat")),
        answer(([50.0, 50.0, 0.0, 0.0], "cat")),  # flipped corners
        "<answer>None</answer>",
        "no answer",
        '<answer>[{"bbox_2d": [0, 0, 9</answer>',
    ]
    for text in texts:
        row = judge(Question.from_sample(asked), prediction("1", text), PLAIN)
        back = decode_row(encode_row(row), "rows.jsonl:1")
        assert back == row
        read = parse(text, PLAIN, asked.size_wh, None, "optional", Asked.from_sample(asked))
        ours, theirs = back.parsed._asdict(), read.with_void()._asdict()
        boxes, wanted = ours.pop("detections"), theirs.pop("detections")
        assert boxes.boxes.tolist() == wanted.boxes.tolist()
        assert boxes.labels == wanted.labels
        assert len(ours.pop("void")) == len(theirs.pop("void")) == 0
        assert [list(ours["written"]), list(ours["names"])] == [
            list(theirs.pop("written")), list(theirs.pop("names"))
        ]  # fmt: skip
        assert {key: ours[key] for key in theirs} == theirs


def test_renamed_keys_keep_their_old_names_for_one_release() -> None:
    found = evaluate(SCENES, spoil(SCENES, 0.5, 5), QWEN, resamples=20)
    metrics, compared = found.metrics, compare(found, found, resamples=20)["metrics"]
    assert compared["looks"] == compared["first_box_accuracy"]
    assert all(row.looks is row.first_box_hits for row in found.rows)
    for figures in (metrics, metrics["blind"], metrics["intervals"]):
        assert figures["looks"] == figures["first_box_accuracy"]
    verdict = metrics["blind"]["told_apart"]
    assert verdict == metrics["blind"]["beats_blind"]
    assert verdict["told_apart"] is verdict["beats_blind"]
    assert verdict["figure"] == verdict["metric"] == "first_box_accuracy"


@pytest.mark.parametrize("name", ["judged", "metrics_only"])
def test_an_evaluation_of_0_1_0_opens(name: str, tmp_path: Path) -> None:
    run = shutil.copytree(OLD / "run", tmp_path / "run")
    stated: dict[str, Any] = json.loads((run / "evals" / name / "metrics.json").read_text())
    found = read_evaluation(run / "evals" / name)
    assert len(found.rows) == stated["n"]
    for key in ("mAP", "precision@0.5", "recall@0.5", "f1", "format_rate"):
        assert found.metrics[key] == pytest.approx(stated[key]), key
    assert found.metrics["first_box_accuracy"] == stated["looks"]
    assert found.metrics["errors"]["counts"] == stated["errors"]["counts"]
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(page)]) == 0
    assert "NOT told apart" in page.read_text()  # in the words that stand there
    assert "first-box accuracy" in page.read_text()


def test_rows_of_0_1_0_without_predictions_say_how_to_redo_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = shutil.copytree(OLD / "alone", tmp_path / "alone")
    words = f"rows.jsonl: was written by boxrl 0.1.0; redo it: boxrl evaluate --samples F --predictions P --out {alone}"  # noqa: E501
    assert main(["compare", str(alone), str(alone)]) == 1
    assert words in capsys.readouterr().err
    assert main(["report", str(alone), "--out", str(tmp_path / "page.html")]) == 0
    assert words.partition(" --out")[0] in capsys.readouterr().err
    assert "0.252" in (tmp_path / "page.html").read_text()  # its metrics are there


def test_metrics_of_0_1_0_that_are_not_those_of_its_predictions_are_refused(tmp_path: Path) -> None:
    """`boxrl evaluate --samples OTHER` wrote such folders: their page contradicted itself."""
    folder = shutil.copytree(OLD / "run", tmp_path / "run") / "evals" / "judged"
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"precision@0.5": 0.9}))
    with pytest.raises(DataError, match=r"says precision@0.5 0.9, its answers give 0.125; redo it"):
        read_evaluation(folder)


def test_what_holds_no_evaluation_is_named(run: Path) -> None:
    folder = run / "evals" / "val"
    (folder / "metrics.json").unlink()
    with pytest.raises(UsageError, match=r"holds rows without metrics.json; redo it"):
        read_evaluation(folder)
    (folder / "rows.jsonl").unlink()
    assert len(read_evaluation(folder).rows) == 12  # judged now
    (folder / "predictions.jsonl").unlink()
    with pytest.raises(UsageError, match=r"holds no evaluation"):
        read_evaluation(folder)


def test_metrics_stand_only_where_rows_do(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two files leaves none that looks whole."""

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("boxrl.evaluate.files.dump_json", kill)
    found = evaluate(SCENES, spoil(SCENES, 0.5, 5), QWEN, resamples=0)
    with pytest.raises(Killed):
        write_evaluation(run / "new", found)
    assert not [path for path in (run / "new").iterdir() if not path.name.startswith(".")]


def test_predictions_note_where_their_relative_paths_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = list(spoil(SCENES, 0.0, 0).values())
    PredictionsFile(Path("p.jsonl"), SETTINGS).append(rows[:5])
    assert json.loads(Path("p.meta.json").read_text())["cwd"] == str(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    PredictionsFile(Path("../p.jsonl"), SETTINGS).append(rows[5:])  # goes on, from anywhere
    assert len(read_predictions(tmp_path / "p.jsonl")) == len(rows)
