"""RF20-VL, Rex-Omni-EvalData and LVIS from their published layouts, against figures by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from boxrl.benchmarks import BENCHMARKS, build_benchmark
from boxrl.benchmarks.rexomni import by_class
from boxrl.benchmarks.rf_vl import RF20, SUPER_CATEGORIES, with_instructions
from boxrl.benchmarks.samples import build_samples
from boxrl.benchmarks.tables import path_of
from boxrl.cli import main
from boxrl.data.predictions import Prediction, PredictionsFile
from boxrl.errors import UsageError
from boxrl.evaluate import evaluate
from boxrl.families import FAMILIES
from boxrl.prompts import render_problem, render_target
from boxrl.types import Object, Sample
from tests.support.archives import annotation, write_image, write_json

PLAIN = FAMILIES["plain"]
GOLDEN = Path(__file__).parents[1] / "golden"
Change = Callable[[Sample], Sample]


def run(
    capsys: pytest.CaptureFixture[str], root: Path, name: str, *more: str, change: Change
) -> dict[str, Any]:
    """The benchmark scored with the gold answer of every sample, as `change` leaves it."""
    replay = root / "replay.jsonl"
    replay.unlink(missing_ok=True)
    mode = next((arg.removeprefix("--mode=") for arg in more if arg.startswith("--mode=")), None)
    built = build_samples(
        build_benchmark(name), root, mode, allow_missing="--allow-missing" in more
    )
    file = PredictionsFile(replay, {"family": "plain", "prompt": "standard", "model": "replay"})
    file.append(
        [Prediction(s.id, render_target(change(s), PLAIN), 9, "stop") for s in built.samples]
    )
    call = ["benchmark", "run", name, f"--data-root={root}", f"--out={root / 'out'}", "--json"]
    assert main([*call, f"--predictions={replay}", "--resamples=0", *more]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    shutil.rmtree(root / "out")
    return result


def unchanged(sample: Sample) -> Sample:
    return sample


def rf_set(root: Path, name: str) -> None:
    """A set as rf100vl leaves it: a placeholder class, two classes, two images of three boxes."""
    folder = root / name / "test"
    images = [{"id": k, "file_name": f"{k}_jpg.rf.{k:032x}.jpg", "width": 100, "height": 100}
              for k in (0, 1)]  # fmt: skip
    categories = [
        {"id": 0, "name": f"{name}-x", "supercategory": "none"},
        {"id": 1, "name": "Cat", "supercategory": f"{name}-x"},
        {"id": 2, "name": "dog", "supercategory": f"{name}-x"},
    ]
    boxes = [annotation(1, 0, 1, [0, 0, 40, 40]), annotation(2, 0, 2, [50, 50, 40, 40]),
             annotation(3, 1, 1, [10, 10, 40, 40])]  # fmt: skip
    document = {"info": {}, "images": images, "annotations": boxes, "categories": categories}
    write_json(folder / "_annotations.coco.json", document)
    for image in images:
        write_image(folder / image["file_name"], (100, 100))


def test_the_tiny_vlm_answers_a_layout_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    rf_set(tmp_path, "actions")
    call = ["benchmark", "run", "rf20vl", "--model=tiny", f"--data-root={tmp_path}", "--limit=1"]
    call += [f"--out={tmp_path / 'out'}", "--allow-missing", "--json", "--resamples=0"]
    assert main([*call, "--predict-options=--max-new-tokens 16"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["parts"]["actions"]["n"] == 1
    assert result["summary"]["sets"]["actions"]["mAP"] == 0.0
    assert "limit the first 1 samples of each part" in result["table"]["facts"]["protocol"]


def without_dogs(sample: Sample) -> Sample:
    return replace(sample, objects=tuple(o for o in sample.objects if o.label != "dog"))


@pytest.mark.parametrize("mode", ["all", "single_class"])
def test_rf20vl_gives_means_over_sets_and_super_categories(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in RF20:
        rf_set(tmp_path, name)

    def miss_sport(sample: Sample) -> Sample:
        return without_dogs(sample) if sample.meta["part"] in SUPER_CATEGORIES["Sport"] else sample

    result = run(capsys, tmp_path, "rf20vl", f"--mode={mode}", change=miss_sport)
    summary = result["summary"]
    # in the two sets of Sport the cat is found and the dog missed: AP 1/2
    assert summary["super_categories"]["Sport"]["mAP"] == pytest.approx(0.5)
    assert summary["super_categories"]["Medical"]["AP50"] == pytest.approx(1.0)
    assert summary["mean"]["mAP"] == pytest.approx((18 + 2 / 2) / 20)
    assert set(summary["super_categories"]) == set(SUPER_CATEGORIES)
    asked = json.loads((tmp_path / "replay.jsonl").read_text().splitlines()[0])["id"]
    assert asked.startswith("actions/")


def test_rf_sets_are_those_of_the_package() -> None:
    sets = json.loads((GOLDEN / "rf20" / "sets.json").read_text())["sets"]
    names = {"Flora/Fauna": "Flora & Fauna", "Lab Imaging": "Medical", "Misc": "Other"}
    assert set(RF20) == set(sets)
    for name, row in sets.items():
        theirs = row["super_category"]
        assert name in SUPER_CATEGORIES[names.get(theirs, theirs)]
    sizes = {name: len(members) for name, members in SUPER_CATEGORIES.items()}
    assert sizes == {"Aerial": 11, "Document": 10, "Flora & Fauna": 23, "Industrial": 22,
                     "Medical": 13, "Other": 15, "Sport": 6}  # fmt: skip
    assert len(BENCHMARKS["rf100vl"].parts) == 100


def test_a_missing_set_is_named_and_the_rest_runs_only_where_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in RF20[:2]:
        rf_set(tmp_path, name)
    with pytest.raises(UsageError, match=r"18 of 20 parts of rf20vl.*--allow-missing"):
        build_samples(build_benchmark("rf20vl"), tmp_path)
    result = run(capsys, tmp_path, "rf20vl", "--allow-missing", change=unchanged)
    assert len(result["missing"]) == 18
    assert result["summary"]["mean"]["mAP"] is None  # a mean over fewer is another figure
    assert result["summary"]["sets"]["actions"]["mAP"] == pytest.approx(1.0)


def test_instructions_stand_before_the_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rf_set(tmp_path, "actions")
    more = ("--allow-missing", "--protocol=instructions")
    with pytest.raises(AssertionError):
        run(capsys, tmp_path, "rf20vl", *more, change=unchanged)
    assert "README.dataset.txt is missing" in capsys.readouterr().err
    (tmp_path / "actions" / "README.dataset.txt").write_text("## Cat\nIt has whiskers.\n")
    result = run(capsys, tmp_path, "rf20vl", *more, change=unchanged)
    plain = run(capsys, tmp_path, "rf20vl", "--allow-missing", change=unchanged)
    assert result["variant"] == "instructions"
    stated = [one["parts"]["actions"]["protocol"]["questions"] for one in (result, plain)]
    assert stated[0] != stated[1]
    built = build_samples(build_benchmark("rf20vl"), tmp_path, allow_missing=True).samples
    [asked] = with_instructions(built, tmp_path)[:1]
    text = render_problem(asked)
    assert text.startswith("## Cat\nIt has whiskers.\n\nPlease carefully observe")


def rex_set(root: Path, name: str, task: str, rows: list[dict[str, Any]]) -> None:
    path = root / "_annotations" / "box_eval" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"dataset_name": name, "task_name": task}
    path.write_text("".join(json.dumps(facts | row) + "\n" for row in rows))
    for row in rows:
        write_image(root / row["image_path"], (100, 100))


NAMES = ["car", "van"]
A, B = [0, 0, 40, 40], [50, 50, 90, 90]


def test_rexomni_gives_the_published_figure_and_the_honest_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rex_set(tmp_path, "VisDrone", "dense_object_detection", [
        {"image_path": "visdrone/1.jpg", "categories": NAMES, "gt": {"car": [A], "van": [B]}},
        {"image_path": "visdrone/2.jpg", "categories": NAMES, "gt": {"car": [A]}},
    ])  # fmt: skip
    rex_set(tmp_path, "HumanRef", "referring_object_detection", [
        {"image_path": "humanref/1.jpg", "categories": ["man in red"], "gt": {"man in red": [A]}},
    ])  # fmt: skip

    def swapped(sample: Sample) -> Sample:
        names = {"car": "van", "van": "car"}
        found = [structs.replace(o, label=names.get(o.label, o.label)) for o in sample.objects]
        if sample.id.endswith("2"):
            found = [*sample.objects, Object((0.0, 50.0, 40.0, 90.0), "van")]
        return replace(sample, objects=tuple(found))

    result = run(capsys, tmp_path, "rexomni", "--allow-missing", change=swapped)["summary"]
    # published: names do not matter in the first image (P 1, R 1); in the second the van is of a
    # name that is not there: P 1/2, R 1. Means 3/4 and 1.
    dense = 2 * 0.75 / 1.75
    assert result["published"]["VisDrone"] == pytest.approx(dict.fromkeys(F1, dense))
    # honest: of four boxes the one car of the second image is right, of three targets
    assert result["honest micro"]["VisDrone"]["F1@0.5"] == pytest.approx(2 / (4 + 3))
    # car: one of two boxes right, one of two found; van: none of two, none of one
    assert result["honest macro"]["VisDrone"]["F1@mean"] == pytest.approx(0.25)
    assert result["published"]["HumanRef"] == pytest.approx(dict.fromkeys(F1, 1.0))


F1 = ("F1@0.5", "F1@0.95", "F1@mean")


def test_rexomni_s_coco_figures_need_its_annotations_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rex_set(tmp_path, "COCO", "common_object_detection", [
        {"image_path": f"coco/val2017/{k}.jpg", "categories": [name], "gt": {name: [box]}}
        for k, name, box in ((1, "cell phone", A), (2, "dog", B))
    ])  # fmt: skip
    more = ("--allow-missing",)
    without = run(capsys, tmp_path, "rexomni", *more, change=unchanged)["summary"]
    assert without["published"]["COCO"] == dict.fromkeys(F1)
    document = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "width": 100, "height": 100} for k in (1, 2)],
        "annotations": [annotation(1, 1, 1, [0, 0, 40, 40]), annotation(2, 2, 2, [50, 50, 40, 40])],
        "categories": [{"id": 1, "name": "Cell_Phone"}, {"id": 2, "name": "dog"}],
    }
    write_json(tmp_path / "coco" / "instances_val2017.json", document)
    found = run(capsys, tmp_path, "rexomni", *more, change=without_dogs)["summary"]
    # the dog is missed: the script drops its recall of 0 and gives it the phone's precision
    assert found["published"]["COCO"] == pytest.approx(dict.fromkeys(F1, 1.0))
    assert found["honest macro"]["COCO"] == pytest.approx(dict.fromkeys(F1, 0.5))
    document["images"].pop()
    document["annotations"].pop()
    write_json(tmp_path / "coco" / "instances_val2017.json", document)
    with pytest.raises(AssertionError):
        run(capsys, tmp_path, "rexomni", *more, change=unchanged)
    assert "does not list 'coco/val2017/2.jpg'" in capsys.readouterr().err


def test_rows_give_what_rex_omni_s_script_gives(tmp_path: Path) -> None:
    """Its golden answers, as boxes that boxrl has judged."""
    expected = json.loads((GOLDEN / "rexomni" / "expected.json").read_text())["coco"]["official"]
    lines = (GOLDEN / "rexomni" / "coco_answer.jsonl").read_text().splitlines()
    samples, predictions = [], {}
    for number, row in enumerate(map(json.loads, lines)):
        labels = tuple(row["gt"]) or ("none",)
        samples.append(Sample(f"{number}", row["image_path"], row["width"], row["height"],
                              "detection", labels))  # fmt: skip
        items = [
            {"bbox_2d": box, "label": name}
            for name, boxes in row["extracted_predictions"].items()
            for box in boxes
        ]
        answer = f"<answer>{json.dumps(items)}</answer>"
        predictions[f"{number}"] = Prediction(f"{number}", answer, 9, "stop")
    rows = evaluate(samples, predictions, PLAIN, resamples=0).rows
    found = by_class(rows, GOLDEN / "rexomni" / "coco_gt.json", 100)
    assert found
    for name, figures in expected.items():
        assert found[name]._asdict() == pytest.approx(figures, abs=1e-9)


def test_lvis_is_scored_by_what_was_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "http://images.cocodataset.org/val2017/{}.jpg"
    images = [
        {"id": 5, "width": 100, "height": 100, "coco_url": url.format("a"),
         "neg_category_ids": [2], "not_exhaustive_category_ids": [3]},
        {"id": 6, "width": 100, "height": 100, "coco_url": url.format("b"),
         "neg_category_ids": [1], "not_exhaustive_category_ids": []},
    ]  # fmt: skip
    rows = [annotation(1, 5, 1, A), annotation(2, 5, 3, [50, 50, 40, 40]),
            annotation(3, 6, 2, [10, 10, 40, 40])]  # fmt: skip
    for row in rows:
        del row["iscrowd"]
    kinds = ((1, "car_(automobile)", "f"), (2, "owl", "r"), (3, "bowl", "c"))
    categories = [{"id": k, "name": name, "frequency": often} for k, name, often in kinds]
    document = {"images": images, "annotations": rows, "categories": categories}
    write_json(tmp_path / "lvis_v1_val.json", document)
    for name in ("a", "b"):
        write_image(tmp_path / "val2017" / f"{name}.jpg", (100, 100))

    def spoiled(sample: Sample) -> Sample:
        if sample.meta["image_id"] == 6:
            return sample
        more = Object((0.0, 60.0, 30.0, 90.0), "owl"), Object((60.0, 0.0, 90.0, 30.0), "bowl")
        return replace(sample, objects=(*more, *sample.objects))

    found = run(capsys, tmp_path, "lvis", change=spoiled)["summary"]["federated"]
    # the owl, verified absent from the first image, is false there; the second bowl is not, because
    # bowls are annotated in part
    assert (found["APf"], found["APc"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert found["APr"] == pytest.approx(0.5)
    assert found["AP"] == pytest.approx(2.5 / 3)
    assert found["AR@300"] == pytest.approx(1.0)


def test_several_benchmarks_make_one_table_beside_the_published_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    rf_set(tmp_path, "actions")
    rex_set(tmp_path, "VisDrone", "dense_object_detection", [
        {"image_path": "visdrone/1.jpg", "categories": NAMES, "gt": {"car": [A], "van": [B]}},
    ])  # fmt: skip
    call = ["benchmark", "run", "rf20vl", "rexomni", "--model=tiny", f"--data-root={tmp_path}"]
    call += [f"--out={tmp_path / 'out'}", "--allow-missing", "--resamples=10"]
    call += ["--predict-options=--max-new-tokens 8"]
    assert main([*call, "--format=csv"]) == 0
    told = capsys.readouterr()
    assert [line.split(",")[0] for line in told.out.splitlines()] == [
        '"benchmark"', '"rf20vl"', '"rexomni"',
    ]  # fmt: skip
    assert "hint: 2 of 2 completions hold no answer" in told.err
    assert (tmp_path / "out" / "rexomni" / "report.html").is_file()
    assert main([*call, "--format=markdown"]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("| tiny | 0.0"))
    assert row.endswith("| 1 | this run |  |")
    assert "| LocateAnything-3B | 63.0 |" in text
    assert main([*call, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"rf20vl", "rexomni"}
    assert main([*call, f"--data-root={tmp_path}", f"--data-root={tmp_path}"]) == 2
    assert "1 --data-root or one each" in capsys.readouterr().err


def test_every_published_figure_has_its_place() -> None:
    """Names that the tables look up are those that summaries hold."""
    for benchmark in BENCHMARKS.values():
        parts = {part.name for part in benchmark.parts}
        for result in benchmark.published:
            for name in result.figures:
                path = path_of(benchmark, name)
                if path and path[0] == "super_categories":
                    assert path[1] in SUPER_CATEGORIES
                if path and path[0] == "published":
                    assert path[1] in parts
                    assert path[2] in F1
