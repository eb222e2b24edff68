"""Named benchmarks over archives in their publishers' layouts, scored from a replay."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from boxrl.benchmarks import BENCHMARKS, build_benchmark
from boxrl.benchmarks.ovdeval import ASPECTS
from boxrl.benchmarks.published import OVD_BLOG
from boxrl.benchmarks.samples import build_samples, layout
from boxrl.cli import main
from boxrl.data.formats import READERS
from boxrl.data.predictions import Prediction, PredictionsFile
from boxrl.errors import DataError
from boxrl.families import FAMILIES
from boxrl.prompts import render_target
from boxrl.types import Sample
from tests.data.formats.test_formats import d3_pickles, ovdeval_file, reason_seg, refer_folder
from tests.support.archives import coco_document, write_image, write_json

Spoil = Callable[[Sample], Sample]


def replay(root: Path, name: str, mode: str | None, spoil: Spoil) -> Path:
    """A predictions file with the gold answer of every sample, as `spoil` leaves it."""
    path = root / "replay.jsonl"
    file = PredictionsFile(path, {"family": "plain", "prompt": "standard", "model": "replay"})
    for sample in build_samples(build_benchmark(name), root, mode, allow_missing=True).samples:
        completion = render_target(spoil(sample), FAMILIES["plain"])
        file.append([Prediction(sample.id, completion, 9, "stop")])
    return path


def run(
    capsys: pytest.CaptureFixture[str],
    root: Path,
    name: str,
    mode: str | None = None,
    spoil: Spoil = lambda sample: sample,
) -> dict[str, Any]:
    predictions = replay(root, name, mode, spoil)
    arguments = [name, f"--data-root={root}", f"--out={root / 'out'}", "--resamples=20", "--json"]
    arguments += [f"--predictions={predictions}", *([f"--mode={mode}"] if mode else [])]
    arguments += ["--allow-missing"]
    assert main(["benchmark", "run", *arguments]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (root / "out" / "report.html").is_file()
    assert json.loads((root / "out" / "benchmark.json").read_text()) == result
    return result


def without_dogs(sample: Sample) -> Sample:
    return replace(sample, objects=tuple(o for o in sample.objects if o.label != "dog"))


@pytest.fixture
def coco_root(tmp_path: Path) -> Path:
    write_json(tmp_path / "annotations" / "instances_val2017.json", coco_document())
    (tmp_path / "val2017").mkdir()
    return tmp_path


def test_coco_pos_1_over_its_three_modes(
    coco_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    perfect = run(capsys, coco_root, "coco_pos_1")["parts"]["coco_pos_1"]
    assert perfect["mAP"] == pytest.approx(1.0)
    assert (perfect["protocol"]["mode"], perfect["protocol"]["subset"]) == ("positive", "pos_1")
    # dogs are missed: AP 1, 1, 0 over person, bottle, dog; two of four targets found
    (coco_root / "replay.jsonl").unlink()
    missed = run(capsys, coco_root, "coco_pos_1", "all", without_dogs)["parts"]["coco_pos_1"]
    assert missed["mAP"] == pytest.approx(2 / 3)
    assert (missed["precision@0.5"], missed["recall@0.5"]) == (1.0, 0.5)
    assert missed["n"] == 2  # an image without boxes is in no subset
    (coco_root / "replay.jsonl").unlink()
    one = run(capsys, coco_root, "coco_pos_1", "one_box")["parts"]["coco_pos_1"]
    assert one["per_label"].keys() == {"person", "bottle"}  # two dogs are not asked for


def test_a_benchmark_leaves_no_bad_box_out(coco_root: Path) -> None:
    document = coco_document()
    document["annotations"][0]["bbox"] = [1, 2, 0, 4]
    write_json(coco_root / "annotations" / "instances_val2017.json", document)
    with pytest.raises(DataError, match=r"zero width.*a benchmark leaves nothing out"):
        build_samples(build_benchmark("coco"), coco_root)


def test_coco_pos_2_keeps_images_with_one_box_per_label(
    coco_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, coco_root, "coco_pos_2")["parts"]["coco_pos_2"]["n"] == 1


def test_ovdeval_gives_both_means_only_when_every_file_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [name for files in ASPECTS.values() for name in files]
    for name in names[:-1]:
        ovdeval_file(tmp_path / "annotations", name)
        (tmp_path / "images" / name).mkdir(parents=True)

    def miss_material(sample: Sample) -> Sample:
        return replace(sample, objects=()) if sample.meta["part"] == "material" else sample

    partial = run(capsys, tmp_path, "ovdeval", spoil=miss_material)
    assert partial["summary"]["eight_file_mean"]["AP"] is None
    assert list(partial["missing"]) == ["negation"]
    (tmp_path / "replay.jsonl").unlink()
    ovdeval_file(tmp_path / "annotations", "negation")
    (tmp_path / "images" / "negation").mkdir()
    summary = run(capsys, tmp_path, "ovdeval", spoil=miss_material)["summary"]
    assert summary["files"]["material"]["NMS-AP"] == 0.0
    assert summary["aspects"]["attribute"]["AP"] == pytest.approx(0.5)
    for figure in ("AP", "NMS-AP", "NMS-AP order-free"):
        assert summary["eight_file_mean"][figure] == pytest.approx(7 / 8)
        assert summary["five_aspect_mean"][figure] == pytest.approx(4.5 / 5)


def test_ovdeval_nms_ap_falls_where_one_object_gets_every_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ovdeval_file(tmp_path / "annotations", "color")
    (tmp_path / "images" / "color").mkdir(parents=True)

    def every_name(sample: Sample) -> Sample:
        named = [structs.replace(o, label=label) for o in sample.objects for label in sample.labels]
        return replace(sample, objects=tuple(named))

    files = run(capsys, tmp_path, "ovdeval", spoil=every_name)["summary"]["files"]
    assert files["color"]["AP"] == pytest.approx(1.0)
    assert files["color"]["NMS-AP"] == 0.0  # the last box, of the wrong name, is kept


def test_d3_separates_presence_from_absence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d3_pkl").mkdir()
    (tmp_path / "d3_images").mkdir()
    d3_pickles(tmp_path / "d3_pkl")

    def presence_only(sample: Sample) -> Sample:
        kept = [o for o in sample.objects if "without" not in o.label]
        return replace(sample, objects=tuple(kept))

    for mode, asked in (("intra", 4), ("inter", 8)):
        result = run(capsys, tmp_path, "d3", mode, presence_only)
        summary = result["summary"]
        assert summary["full"]["mAP"] == pytest.approx(0.5)  # two descriptions have targets
        assert (summary["pres"]["labels"], summary["pres"]["mAP"]) == (3, pytest.approx(1.0))
        assert (summary["abs"]["labels"], summary["abs"]["mAP"]) == (1, 0.0)
        assert summary["full"]["words"]["1 to 3"]["mAP"] == pytest.approx(1.0)
        assert summary["full"]["words"]["4 to 6"]["mAP"] == 0.0
        samples = (tmp_path / "out" / "samples.jsonl").read_text().splitlines()
        assert sum(len(json.loads(line)["labels"]) for line in samples) == asked
        (tmp_path / "replay.jsonl").unlink()


def test_refcoco_scores_every_split_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refer_folder(tmp_path, "refcoco", "refs(unc).p")
    (tmp_path / "images" / "mscoco" / "images" / "train2014").mkdir(parents=True)

    def first_only(sample: Sample) -> Sample:
        moved = structs.replace(sample.objects[0], bbox=(0, 0, 5, 5))
        return sample if sample.question == "right man" else replace(sample, objects=(moved,))

    result = run(capsys, tmp_path, "refcoco", spoil=first_only)
    accuracy = result["summary"]["grounding_accuracy@0.5"]
    assert accuracy == {"val": None, "testA": 0.5, "testB": 0.0}
    assert result["summary"]["mean"] == {"grounding_accuracy@0.5": None}
    assert list(result["missing"]) == ["val"]


def test_superclevr_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for number, count in enumerate((4, 7), start=25000):
        image = f"images/superCLEVR_new_{number:06d}.png"
        write_image(tmp_path / image)
        question = "How many different items are there in the image?"
        rows.append({"image_path": f"./{image}", "question": question, "ground_truth": count})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "superclevr_test200_counting_problems.jsonl").write_text(lines)
    result = run(capsys, tmp_path, "superclevr", spoil=lambda sample: replace(sample, answer="4"))
    assert result["parts"]["test"]["accuracy"] == 0.5


def test_lisa_scores_expressions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reason_seg(tmp_path, "test/1")
    result = run(capsys, tmp_path, "lisa")
    assert result["parts"]["test"]["grounding_accuracy@0.5"] == 1.0


def test_odinw13_averages_the_validation_splits_of_thirteen_domains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    domains = BENCHMARKS["odinw13"].parts
    for part in domains:
        write_json(tmp_path / part.annotations[0], coco_document())
    assert (tmp_path / "pistols" / "export" / "val_annotations_without_background.json").is_file()

    def miss_dogs_of_pistols(sample: Sample) -> Sample:
        return without_dogs(sample) if sample.meta["part"] == "pistols" else sample

    result = run(capsys, tmp_path, "odinw13", spoil=miss_dogs_of_pistols)
    by_domain = result["summary"]["mAP"]
    assert by_domain.pop("pistols") == pytest.approx(2 / 3)  # of person, bottle and dog
    assert list(by_domain.values()) == pytest.approx([1.0] * 12)
    assert result["summary"]["mean"]["mAP"] == pytest.approx((12 + 2 / 3) / 13)
    images = (tmp_path / "out" / "samples.jsonl").read_text()
    assert '"image":"pistols/export/' in images


def test_refgta_scores_people_of_the_test_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refer_folder(tmp_path / "ref2", "refgta", "refs(utokyo).p", protocol=3)
    path = tmp_path / "ref2" / "refgta" / "refs(utokyo).p"
    refs = [{**ref, "split": "test"} for ref in pickle.loads(path.read_bytes())]
    path.write_bytes(pickle.dumps(refs))
    (tmp_path / "gta_image" / "gtav_cv_mod_data").mkdir(parents=True)
    result = run(capsys, tmp_path, "refgta")
    assert result["summary"]["grounding_accuracy@0.5"] == {"test": 1.0}


def test_a_data_root_without_the_files_says_what_belongs_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["coco_pos_3", f"--data-root={tmp_path}", f"--out={tmp_path}/out", "--model=tiny"]
    assert main(["benchmark", "run", *arguments]) == 2
    error = capsys.readouterr().err
    assert "expected there: annotations/instances_val2017.json" in error
    assert not (tmp_path / "out").exists()


def test_answers_to_other_questions_are_not_scored(
    coco_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, coco_root, "coco_pos_1", "all")
    out = coco_root / "out"
    shutil.copy(coco_root / "replay.jsonl", out / "predictions.jsonl")
    call = ["benchmark", "run", "coco_pos_1", f"--data-root={coco_root}", f"--out={out}"]
    assert main([*call, "--mode=positive", "--model=tiny"]) == 2
    error = capsys.readouterr().err
    assert "holds answers to other questions" in error
    assert error.count("\n") == 1
    few = [*call, "--mode=all", "--limit=1", f"--predictions={coco_root / 'replay.jsonl'}"]
    assert main(few) == 1
    assert "1 of 2 predictions are for other samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "coco_pos_9"], "unknown benchmark 'coco_pos_9'; benchmarks: coco_pos_1"),
        (["run", "superclevr", "--mode=all", "--model=tiny"], "unknown mode 'all'; modes: none"),
        (["list", "coco_pos_9"], "unknown benchmark"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    more = [f"--data-root={tmp_path}", f"--out={tmp_path}/out"] if arguments[0] == "run" else []
    assert main(["benchmark", *arguments, *more]) == 2
    assert message in capsys.readouterr().err


def test_the_list_shows_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed.keys() == BENCHMARKS.keys()
    assert "refcoco/refs(unc).p" in listed["refcoco"]["layout"]
    assert listed["coco_pos_3"]["published"][3]["figures"]["mAP"] == 29.3
    assert main(["benchmark", "list"]) == 0
    assert "superclevr" in capsys.readouterr().out
    assert main(["benchmark", "list", "ovdeval"]) == 0
    assert "annotations/celebrity.json" in capsys.readouterr().out


def test_every_benchmark_names_a_reader_and_its_layout() -> None:
    for name, benchmark in BENCHMARKS.items():
        assert name == benchmark.name
        assert benchmark.reader in READERS
        assert layout(benchmark)
        parts = [part.name for part in benchmark.parts]
        assert len(set(parts)) == len(parts)


def test_published_ovdeval_means_are_those_of_their_files() -> None:
    for result in BENCHMARKS["ovdeval"].published:
        figures = result.figures
        if "celebrity" not in figures:
            continue
        means = [sum(figures[f] for f in files) / len(files) for files in ASPECTS.values()]
        assert sum(means) / 5 == pytest.approx(figures["five_aspect_mean.NMS-AP"], abs=0.005)


def test_every_number_of_the_seed_stands_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text("utf-8")
    numbers = {float(text) for text in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", page)}
    for benchmark in BENCHMARKS.values():
        for result in benchmark.published:
            if result.source == OVD_BLOG:
                assert numbers.issuperset(result.figures.values()), (benchmark.name, result.model)
