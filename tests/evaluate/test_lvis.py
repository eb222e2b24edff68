"""LVIS's federated AP against lvis-api, and `coco-eval --lvis`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boxrl.cli import main
from boxrl.errors import DataError
from boxrl.evaluate.lvis import STATISTICS, evaluate_lvis, lvis_statistics, read_lvis_annotations

GOLDEN = Path(__file__).parents[1] / "golden" / "lvis"
ANNOTATIONS = GOLDEN / "annotations.json"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


@pytest.mark.parametrize("scores", ["predictions", "predictions_constant"])
def test_figures_are_those_of_lvis_api(scores: str, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["coco-eval", "--lvis", f"--annotations={ANNOTATIONS}"]
    call += [f"--predictions={GOLDEN / f'{scores}.json'}"]
    assert main([*call, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in STATISTICS:
        assert found[name] == pytest.approx(EXPECTED[scores]["lvis_api"][name], abs=1e-9), name
    assert main(call) == 0
    assert "300 best boxes" in " ".join(capsys.readouterr().out.split())


def test_nothing_found_is_zero_and_no_category_of_a_frequency_is_none(tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(ANNOTATIONS.read_text())
    for category in document["categories"]:
        category["frequency"] = "f"
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "p.json").write_text("[]")
    found = evaluate_lvis(tmp_path / "a.json", tmp_path / "p.json")
    assert (found["AP"], found["APf"]) == (0.0, 0.0)
    assert (found["APr"], found["APc"]) == (None, None)


def test_some_images_alone_are_a_data_set_of_their_own() -> None:
    import numpy as np

    from boxrl.evaluate.coco_files import read_coco_results

    data = read_lvis_annotations(ANNOTATIONS)
    preds = read_coco_results(GOLDEN / "predictions.json", data.coco)
    whole = lvis_statistics(data, preds)
    assert lvis_statistics(data, preds, np.arange(60)) == whole
    assert lvis_statistics(data, preds, np.arange(20)) != whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: [row.update(neg_category_ids=[]) for row in d["images"]], "no LVIS file"),
        (lambda d: d["categories"][0].pop("frequency"), "expected r, c or f"),
        (lambda d: d["images"][0].update(neg_category_ids="x"), r"images\[0\].neg_category_ids"),
    ],
)
def test_what_is_no_lvis_file_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    document = json.loads(ANNOTATIONS.read_text())
    change(document)
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        evaluate_lvis(tmp_path / "a.json", GOLDEN / "predictions.json")
