"""Pointing: Rex-Omni's figures from its layout, by masks and by boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hotcoco import mask

from boxrl.benchmarks.rex_pointing import SETS, score_answer, summarize_pointing
from boxrl.cli import main
from boxrl.data.predictions import Prediction
from boxrl.families import FAMILIES
from boxrl.parsing import NamedPoint
from boxrl.types import Object, Sample
from tests.support.archives import write_image

GOLDEN = Path(__file__).parents[1] / "golden" / "rexomni"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())["other"]["pointing_COCO"]


def golden_rows() -> list[dict[str, Any]]:
    lines = (GOLDEN / "other_answer.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["task_name"] == "pointing"]


def box_of(one: dict[str, Any]) -> list[float]:
    """The hull of a mask: points have boxes beside it."""
    x, y, width, height = mask.toBbox({"size": one["size"], "counts": one["counts"].encode()})
    return [x, y, x + width, y + height]


def write_set(root: Path, name: str) -> None:
    """The golden rows in the published layout, with the answers that were given to them."""
    (root / "_annotations/point_eval").mkdir(parents=True, exist_ok=True)
    lines, answers = [], []
    for row in golden_rows():
        size = (row["width"], row["height"])
        if not (root / row["image_path"]).exists():
            write_image(root / row["image_path"], size)
        asked = {
            "image_path": row["image_path"], "categories": [*row["gt"]],
            "gt": {key: [box_of(one) for one in some] for key, some in row["gt"].items()},
            "gt_mask": row["gt"], "task_name": "pointing", "dataset_name": name,
        }  # fmt: skip
        lines.append(json.dumps(asked))
        key = f"{name}/{Path(row['image_path']).stem}"
        said = row["raw_response"].replace("<|im_end|>", "")
        answers.append(json.dumps({"id": key, "completion": said, "finish_reason": "stop"}))
    (root / f"_annotations/point_eval/{name}.jsonl").write_text("\n".join(lines) + "\n")
    with (root / "replay.jsonl").open("a") as handle:
        handle.write("\n".join(answers) + "\n")


def run(root: Path, *more: str) -> int:
    call = ["benchmark", "run", "rexomni_pointing", f"--data-root={root}", f"--out={root / 'out'}"]
    call += [f"--predictions={root / 'replay.jsonl'}", "--family=rex-omni", "--resamples=50"]
    return main([*call, *more])


def test_figures_are_those_of_its_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path, "COCO")
    assert run(tmp_path, "--json") == 2  # six sets are missing
    assert "Dense200" in capsys.readouterr().err
    assert run(tmp_path, "--json", "--allow-missing") == 0
    result = json.loads(capsys.readouterr().out)
    found = result["summary"]["sets"]["COCO"]
    assert found["precision"] == pytest.approx(EXPECTED["0.5"]["precision"], abs=1e-9)
    assert found["recall"] == pytest.approx(EXPECTED["0.5"]["recall"], abs=1e-9)
    assert found["F1"] == pytest.approx(EXPECTED["0.5"]["f1"], abs=1e-9)
    low, high = result["intervals"]["sets.COCO.F1"]
    assert low < found["F1"] < high
    assert result["summary"]["mean"]["F1"] is None
    assert "82.7" in (tmp_path / "out/report.html").read_text("utf-8")


def test_the_mean_is_over_seven_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in SETS:
        write_set(tmp_path, name)
    assert run(tmp_path, "--format=csv") == 0
    header, row = capsys.readouterr().out.splitlines()
    cells = dict(zip(header.replace('"', "").split(","), row.split(","), strict=False))
    assert float(cells["F1"]) == pytest.approx(EXPECTED["0.5"]["f1"] * 100)
    assert float(cells["95 % low"]) < float(cells["F1"]) < float(cells["95 % high"])
    assert cells["n"] == str(7 * EXPECTED["n_rows"])
    assert run(tmp_path) == 0
    assert "F1 82.7 (95 %" in capsys.readouterr().out


CAT = Object((10, 10, 50, 50), "Cat")


@pytest.mark.parametrize(
    ("points", "task", "scores"),
    [
        ([NamedPoint(20, 20, "cat")], "pointing", (1, 1, 1)),
        ([NamedPoint(20, 20, "")], "pointing", (1, 1, 1)),  # one name was asked
        ([NamedPoint(60, 20, "cat")], "pointing", (0, 0, 0)),
        ([NamedPoint(20, 20, "dog")], "pointing", (0, 0, 0)),
        ([NamedPoint(20, 20, "the cat")], "pointing_referring", (1, 1, 1)),
        ([NamedPoint(20, 20, "cat"), NamedPoint(30, 30, "cat")], "pointing", (0.5, 1, 2 / 3)),
        ([], "pointing", (0, 0, 0)),
    ],
)
def test_without_masks_boxes_are_looked_at(
    points: list[NamedPoint], task: str, scores: tuple[float, ...]
) -> None:
    asked = Sample("1", "a.jpg", 100, 100, "detection", ("cat",), (CAT,), meta={"task_name": task})
    assert score_answer(asked, points) == pytest.approx(scores)


def test_expressions_about_one_image_are_drawn_together() -> None:
    """Four about each of two images, all right or all wrong: F1 of a resample is 0, 1 or .5."""
    asked = [
        Sample(
            f"{k}", f"{k % 2}.jpg", 100, 100, "detection", ("cat",), (CAT,), meta={"part": "COCO"}
        )
        for k in range(8)
    ]
    said = ['<answer>[{"point_2d": [20, 20], "label": "cat"}]</answer>', "None"]
    answers = {s.id: Prediction(s.id, said[k % 2], 1, "stop") for k, s in enumerate(asked)}
    _, intervals = summarize_pointing(asked, answers, FAMILIES["plain"], 200)
    assert intervals["sets.COCO.F1"] == [0, 1]


@pytest.mark.parametrize(
    "masks", [{"cat": []}, {"cat": [{"counts": "x", "size": [1, 1]}]}, {"cat": [7]}, [1]]
)
def test_masks_that_are_none_are_refused(
    masks: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "a.jpg", (100, 80))
    (tmp_path / "_annotations/point_eval").mkdir(parents=True)
    row = {"image_path": "a.jpg", "categories": ["cat"], "gt": {"cat": [[1, 1, 9, 9]]}}
    line = json.dumps(row | {"gt_mask": masks, "task_name": "pointing"})
    (tmp_path / "_annotations/point_eval/COCO.jsonl").write_text(line + "\n")
    (tmp_path / "replay.jsonl").write_text("")
    assert run(tmp_path, "--allow-missing") == 1
    assert "COCO.jsonl:1: gt_mask" in capsys.readouterr().err
