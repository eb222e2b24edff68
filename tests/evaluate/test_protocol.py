"""What must be equal before two runs are compared, and how a difference is named."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from boxrl.benchmarks import build_benchmark
from boxrl.benchmarks.samples import build_samples
from boxrl.cli import main
from boxrl.data.samples import hash_images, hash_question, read_samples, write_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate import Evaluation, compare, evaluate
from boxrl.evaluate.files import read_evaluation, write_evaluation
from boxrl.evaluate.protocol import protocol_difference, shared_protocol
from boxrl.families import FAMILIES
from boxrl.prompts import render_target
from boxrl.types import Sample
from tests.data.formats.test_formats import d3_pickles
from tests.support.archives import coco_document, write_json
from tests.support.evaluations import PLAIN, A, B, answer, prediction, sample

SAMPLES = [sample("1", (A, "cat")), sample("2", (B, "dog")), sample("3")]
ANSWERS = {item.id: prediction(item.id, render_target(item, PLAIN)) for item in SAMPLES}
SAMPLING = {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 64, "n": 1, "seed": 0}
SETTINGS = {
    "prompt": "standard", "prompt_file": "1a", "sampling": SAMPLING, "thinking": False,
    "extra_body": {},
}  # fmt: skip


def run(
    samples: list[Sample] = SAMPLES, settings: dict[str, Any] = SETTINGS, **rules: Any
) -> Evaluation:
    return evaluate(samples, ANSWERS, PLAIN, settings=settings, resamples=0, **rules)


def test_answers_to_other_questions_of_the_same_ids_are_refused() -> None:
    """Samples converted again in another mode: their answers were scored as answers to them."""
    told = {s.id: replace(ANSWERS[s.id], asked=hash_question(s)) for s in SAMPLES}
    moved = [replace(item, image=f"elsewhere/{item.image}", objects=()) for item in SAMPLES]
    assert evaluate(moved, told, PLAIN, resamples=0).metrics["n"] == 3  # targets may change
    other = [*SAMPLES[:2], replace(SAMPLES[2], labels=("zebra",))]
    message = r"1 of 3 predictions answer other questions than the samples ask \(first: '3'\)"
    with pytest.raises(DataError, match=message):
        evaluate(other, told, PLAIN, resamples=0)
    controlled = evaluate(other, told, PLAIN, settings={"control": "absent_labels"}, resamples=0)
    assert controlled.metrics["n"] == 3  # which asks otherwise on purpose


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (run([replace(s, labels=(*s.labels, "owl")) for s in SAMPLES]),
         r"questions: 3 samples ask something else, the first is '1'"),
        (run([*SAMPLES[:2], replace(SAMPLES[2], labels=tuple(reversed(SAMPLES[2].labels)))]),
         "questions: 1 samples ask something else, the first is '3'"),
        (run([replace(SAMPLES[0], image="other.jpg"), *SAMPLES[1:]]),
         "images: 1 samples show another image, the first is '1'"),
        (run([replace(s, meta={"setting": "inter"}) for s in SAMPLES]), "setting: 'intra'"),
        (run([replace(s, meta={"split": "test"}) for s in SAMPLES]), "split: 'val' and 'test'"),
        (run(settings=SETTINGS | {"sampling": SAMPLING | {"temperature": 1.0}}), "sampling: "),
        (run(settings=SETTINGS | {"sampling": SAMPLING | {"max_new_tokens": 9}}), "sampling: "),
        (run(settings=SETTINGS | {"thinking": True}), "thinking: 'off' and 'on'"),
        (run(settings=SETTINGS | {"prompt_file": "2b"}), "prompt_file: '1a' and '2b'"),
        (run(settings=SETTINGS | {"extra_body": {"top_k": 20}}), "sampling: .* and .*'top_k': 20"),
        (run(settings=SETTINGS | {"extra_body": {"temperature": None}}), "'temperature': None"),
        (run(settings=SETTINGS | {"extra_body": {"max_tokens": 9}}), "'max_new_tokens': 9"),
        (run(reading="tolerant"), "reading: 'strict' and 'tolerant'"),
        (run(errors="skip"), "errors: None and 'skip'"),
        (run(confidence="order"), "confidence: 'constant' and 'order'"),
        (run(nms=0.5), "nms: None and 0.5"),
        (run(crowds="wrong"), "crowds: 'ignored' and 'wrong'"),
        (run(answer_tag="required"), "answer_tag: 'optional' and 'required'"),
    ],
    ids=[
        "labels", "order of labels", "images", "setting", "split", "temperature", "max_new_tokens",
        "thinking", "prompt_file", "top_k", "no temperature", "max_tokens", "reading", "errors",
        "confidence", "nms", "crowds", "answer_tag",
    ],
)  # fmt: skip
def test_what_differs_is_refused_by_name(other: Evaluation, named: str) -> None:
    meta = {"setting": "intra", "split": "val"}
    one = run([replace(item, meta=meta) for item in SAMPLES])
    with pytest.raises(UsageError, match=named):
        compare(one, other, resamples=10)


def test_pixel_limits_are_refused_by_name() -> None:
    narrow = replace(FAMILIES["qwen2.5-vl"], max_pixels=200_704)
    wide = FAMILIES["qwen2.5-vl"]
    runs = [evaluate(SAMPLES, ANSWERS, family, resamples=0) for family in (narrow, wide)]
    with pytest.raises(UsageError, match="max_pixels: 200704 and 12845056"):
        compare(*runs, resamples=10)


@pytest.mark.parametrize(
    ("size_wh", "narrow", "refused"),
    [
        ((640, 480), {}, None),  # of 65,536 to 12,845,056 pixels under both families' defaults
        ((250, 250), {}, "min_pixels: 3136 and 65536"),
        ((4000, 3300), {}, "max_pixels: 12845056 and 16777216"),
        ((640, 480), {"max_pixels": 200_704}, "max_pixels: 200704 and 16777216"),
        ((440, 440), {"max_pixels": 200_704}, "max_pixels"),  # rounded to patches, 448 x 448
    ],
)
def test_limits_of_two_families_count_where_an_image_comes_to_one(
    size_wh: tuple[int, int], narrow: dict[str, int], refused: str | None
) -> None:
    """Qwen2.5-VL and Qwen3-VL did not compare, whose defaults leave photographs as they are."""
    samples = [replace(item, width=size_wh[0], height=size_wh[1]) for item in SAMPLES]
    families = replace(FAMILIES["qwen2.5-vl"], **narrow), FAMILIES["qwen3-vl"]
    runs = [evaluate(samples, ANSWERS, family, resamples=0) for family in families]
    if refused is None:
        assert protocol_difference(*runs) == protocol_difference(*runs[::-1]) == {}
        shared = compare(*runs, resamples=10)["protocol"]
        assert "max_pixels" not in shared  # a's stood there as that of both
        assert shared["confidence"] == "constant"
    else:
        with pytest.raises(UsageError, match=refused):
            compare(*runs, resamples=10)


def test_what_changes_no_figure_and_what_nobody_stated_is_compared() -> None:
    seeded = SAMPLING | {"seed": 1, "logprobs": True}
    body = {"stream": True, "max_completion_tokens": 64, "max_tokens": None}
    for other in (
        run(settings=SETTINGS | {"extra_body": body}),
        run(settings=SETTINGS | {"sampling": seeded}),
        run(settings={"prompt": "standard"}),
    ):
        assert protocol_difference(run(), other) == {}
    alone = compare(run(), run(settings={"prompt": "standard"}), resamples=10)["protocol"]
    assert "sampling" not in alone  # one run alone states it
    drawn_alike = compare(run(), run(settings=SETTINGS | {"sampling": seeded}), resamples=10)
    assert drawn_alike["protocol"]["sampling"] == {k: v for k, v in SAMPLING.items() if k != "seed"}


def test_images_of_other_content_are_refused_where_both_runs_recorded_it(tmp_path: Path) -> None:
    runs = []
    for name, colour in (("a", (9, 9, 9)), ("b", (200, 9, 9)), ("c", (9, 9, 9))):
        for item in SAMPLES:
            path = tmp_path / name / item.image
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", item.size_wh, colour).save(path)
        write_samples(tmp_path / name / "samples.jsonl", SAMPLES)
        (tmp_path / name / "predictions.jsonl").write_text("")
        folder = tmp_path / "evals" / name
        write_evaluation(
            folder, run(), samples=tmp_path / name / "samples.jsonl",
            predictions=tmp_path / name / "predictions.jsonl", images=tmp_path / name,
        )  # fmt: skip
        runs.append(read_evaluation(folder))
    with pytest.raises(UsageError, match="images: other files under the same names"):
        compare(*runs[:2], resamples=10)
    assert protocol_difference(runs[0], runs[2]) == {}


def test_images_count_as_they_were_when_they_were_answered(tmp_path: Path) -> None:
    """Evaluated again after the files had changed, old answers passed for answers to the new."""
    for item in SAMPLES:
        Image.new("RGB", item.size_wh).save(tmp_path / item.image)
    write_samples(tmp_path / "s.jsonl", SAMPLES)
    digest = hashlib.sha256((tmp_path / "s.jsonl").read_bytes()).hexdigest()
    (tmp_path / "p.jsonl").write_text("")
    found = []
    for asked, shown in ((digest, "0" * 64), ("of other samples", "0" * 64)):
        files = {"samples": {"path": "s.jsonl", "sha256": asked},
                 "images": {"path": ".", "sha256": shown}}  # fmt: skip
        (tmp_path / "p.meta.json").write_text(json.dumps({"files": files}))
        written = write_evaluation(
            tmp_path / "out", run(), samples=tmp_path / "s.jsonl",
            predictions=tmp_path / "p.jsonl", images=tmp_path,
        )  # fmt: skip
        found.append(written.metrics["files"]["images"]["sha256"])
    assert found == ["0" * 64, hash_images(tmp_path, SAMPLES)]


def test_several_parts_state_what_they_share() -> None:
    parts = [
        run([replace(s, meta={"subset": name}) for s in SAMPLES]) for name in ("logo", "color")
    ]
    shared = shared_protocol(parts)
    assert "subset" not in shared
    assert shared["prompt"] == "standard"


def test_d3_intra_against_inter_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d3_pkl").mkdir()
    (tmp_path / "d3_images").mkdir()
    d3_pickles(tmp_path / "d3_pkl")
    for setting in ("intra", "inter"):
        samples = build_samples(build_benchmark("d3"), tmp_path, setting).samples
        lines = [
            f'{{"id": "{s.id}", "completion": "None", "finish_reason": "stop"}}' for s in samples
        ]
        replay = tmp_path / f"{setting}.jsonl"
        replay.write_text("\n".join(lines) + "\n")
        call = ["benchmark", "run", "d3", f"--data-root={tmp_path}", f"--predictions={replay}"]
        call += ["--family=plain", f"--mode={setting}", f"--out={tmp_path / f'run_{setting}'}"]
        assert main([*call, "--resamples=0"]) == 0
        assert f"setting: {setting}" in capsys.readouterr().out
    assert main(["compare", *(str(tmp_path / f"run_{s}") for s in ("intra", "inter"))]) == 2
    told = capsys.readouterr().err
    assert "setting: 'intra' and 'inter'" in told
    assert "ask something else" in told


def test_other_negatives_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many as before, drawn by another seed, are other questions too."""
    document = write_json(tmp_path / "coco.json", coco_document())
    (tmp_path / "images").mkdir()
    for name, draw in (("one", "1"), ("two", "2"), ("other", "1")):
        samples, folder = tmp_path / f"{name}.jsonl", tmp_path / name
        call = ["data", "convert", "coco", f"--annotations={document}", f"--out={samples}"]
        call += [f"--images={tmp_path / 'images'}", "--mode=positive", f"--negatives={draw}"]
        assert main([*call, f"--seed={'7' if name == 'other' else '0'}"]) in (0, None)
        folder.mkdir()
        rows = [{"id": s.id, "completion": "None"} for s in read_samples(samples)]
        predictions = folder / "predictions.jsonl"
        predictions.write_text("".join(json.dumps(row) + "\n" for row in rows))
        call = ["evaluate", f"--samples={samples}", f"--predictions={predictions}"]
        assert main([*call, "--family=plain", f"--out={folder}", "--resamples=0"]) in (0, None)
    capsys.readouterr()
    for other in ("two", "other"):
        assert main(["compare", str(tmp_path / "one"), str(tmp_path / other)]) == 2
        assert "ask something else" in capsys.readouterr().err


def test_nms_judges_the_surest_box_alone() -> None:
    twice = prediction("1", answer((A, "cat"), (A, "cat"), (A, "dog")))
    asked = [sample("1", (A, "cat"))]
    plain = evaluate(asked, {"1": twice}, PLAIN, resamples=0)
    thinned = evaluate(asked, {"1": twice}, PLAIN, resamples=0, nms=0.5)
    assert plain.metrics["precision@0.5"] == pytest.approx(1 / 3)
    assert thinned.metrics["precision@0.5"] == 1 / 2  # the dog is of another label
    assert thinned.rows[0].parsed.kept == (0, 2)
    assert thinned.metrics["protocol"]["nms"] == 0.5


def test_the_protocol_says_how_intervals_were_drawn() -> None:
    one = evaluate(SAMPLES, ANSWERS, PLAIN, settings=SETTINGS, seed=3, resamples=20)
    said = "95 %, percentile bootstrap over images, 20 resamples, seed 3"
    assert one.metrics["protocol"]["intervals"] == said
    assert said in one.to_markdown()
    assert run().metrics["protocol"]["intervals"] is None
    difference = compare(one, run(), seed=5, resamples=10)
    assert difference["protocol"]["intervals"].endswith("10 resamples, seed 5")
