"""Evaluation and comparison of runs, from samples and completions to figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from boxrl.data import files
from boxrl.errors import DataError, UsageError
from boxrl.evaluate import compare, evaluate
from boxrl.evaluate.comparison import share_changes, sign_test
from boxrl.evaluate.files import read_evaluation, write_evaluation
from boxrl.evaluate.summary import SHARES, share_value
from boxrl.prompts import render_target
from boxrl.types import Object, Sample
from tests.support.coco_data import pycocotools_statistics, random_coco
from tests.support.evaluations import (
    PLAIN,
    QWEN,
    SCENES,
    A,
    B,
    C,
    answer,
    prediction,
    run,
    sample,
    spoil,
)


def test_hand_computed_figures() -> None:
    metrics = run(
        [
            (sample("1", (A, "cat"), (B, "dog")), prediction("1", answer((A, "cat"), (A, "dog")))),
            (
                sample("2", (C, "cat")),
                prediction("2", answer((C, "cat"), (C, "bird")), n_tokens=3000),
            ),
            (sample("3"), prediction("3", "<think>x</think><answer>None</answer>")),
            (sample("4"), prediction("4", "no idea", finish_reason="length")),
        ]
    ).metrics
    assert metrics["n"] == 4
    # cat: both found, AP 1; dog: its one box misses, AP 0
    assert metrics["mAP"] == metrics["AP50"] == pytest.approx(0.5)
    assert metrics["precision@0.5"] == 2 / 4
    assert metrics["recall@0.5"] == 2 / 3
    assert metrics["f1@0.5"] == pytest.approx(4 / 7)
    assert metrics["f1"] == pytest.approx((0.5 + 2 / 3 + 1 + 0) / 4)
    assert metrics["format_rate"] == 3 / 4
    assert metrics["parse"]["malformed"] == metrics["parse"]["empty"] == 1 / 4
    assert metrics["unknown_labels"] == 1
    assert metrics["negatives"] == {"n": 2, "accuracy": 0.5}
    assert metrics["truncated_rate"] == 1 / 4
    assert metrics["tokens"] == {"min": 10, "max": 10, "mean": 10.0, "long": 1}
    assert metrics["per_label"]["dog"] == {"AP": 0.0, "AP50": 0.0, "targets": 1, "predictions": 1}
    assert metrics["per_size"]["small"]["AP"] == pytest.approx(1.0)  # the 30 x 30 cat
    assert metrics["APl"] is None  # no target of 96 x 96 pixels
    assert metrics["errors"]["counts"]["classification"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_ap_equals_pycocotools(seed: int) -> None:
    dataset, results = random_coco(np.random.default_rng(seed), 20, 4, tied=True)
    names = {row["id"]: row["name"] for row in dataset["categories"]}
    pairs, ranked = [], []
    for image in dataset["images"]:
        mine = [row for row in dataset["annotations"] if row["image_id"] == image["id"]]
        found = [row for row in results if row["image_id"] == image["id"]]
        for row in [*mine, *found]:
            x, y, w, h = row["bbox"]  # inside the image, where boxes are clipped to
            row["bbox"] = [max(x, 0), max(y, 0), w + min(x, 0), h + min(y, 0)]
        for row in mine:
            row["area"] = row["bbox"][2] * row["bbox"][3]
        ranked += found
        objects = tuple(
            Object((x, y, x + w, y + h), names[row["category_id"]], bool(row["iscrowd"]))
            for row in mine
            for x, y, w, h in [row["bbox"]]
        )
        boxes = [
            ([x, y, x + w, y + h], names[row["category_id"]])
            for row in found
            for x, y, w, h in [row["bbox"]]
        ]
        key = str(image["id"])
        asked = Sample(key, key, 640, 640, "detection", tuple(names.values()), objects)
        pairs.append((asked, prediction(key, answer(*boxes))))
    expected = pycocotools_statistics(dataset, ranked)
    metrics = run(pairs).metrics
    for name in ("mAP", "AP50", "AP75", "APs", "APm", "APl"):
        assert metrics[name] == pytest.approx(expected[name], abs=1e-9), name


def test_sizes_are_those_of_the_source_where_it_gives_areas() -> None:
    big = [0.0, 0.0, 98.0, 98.0]
    asked = sample("1", (big, "cat"))
    found = prediction("1", answer((big, "cat")))
    assert run([(asked, found)]).metrics["APl"] == pytest.approx(1.0)
    by_segmentation = replace(asked, meta={"areas": [5000.0]})
    metrics = run([(by_segmentation, found)]).metrics
    assert (metrics["APm"], metrics["APl"]) == (pytest.approx(1.0), None)


def test_a_perfect_run_scores_one_and_beats_the_blind_baseline() -> None:
    metrics = evaluate(SCENES, spoil(SCENES, 0.0, 0), QWEN, resamples=100).metrics
    for name in (
        "mAP",
        "mAP_order_free",
        "precision@0.5",
        "recall@0.5",
        "f1",
        "first_box_accuracy",
    ):
        assert metrics[name] == pytest.approx(1.0, abs=1e-9), name
    assert metrics["blind"]["first_box_accuracy"] < 0.8
    verdict = metrics["blind"]["beats_blind"]
    assert verdict["beats_blind"]
    assert verdict["words"].startswith("Significantly better than the blind baseline (95 % CI +")


def test_a_run_that_ignores_the_question_does_not_beat_the_blind_baseline() -> None:
    blind = {}
    for number, item in enumerate(SCENES):
        everything = [*item.objects, *(Object(tuple(o["bbox"]), "") for o in item.meta["others"])]
        order = np.random.default_rng(number).permutation(len(everything))
        named = [structs.replace(everything[k], label=item.labels[0]) for k in order]
        completion = render_target(replace(item, objects=tuple(named)), QWEN)
        blind[item.id] = prediction(item.id, completion)
    verdict = evaluate(SCENES, blind, QWEN, resamples=200).metrics["blind"]["beats_blind"]
    assert not verdict["beats_blind"]
    assert verdict["words"].startswith("Not significantly better than the blind baseline (95 % CI ")
    assert "first-box accuracy" in verdict["words"]


def test_intervals_hold_the_figures_and_repeat_with_the_seed() -> None:
    predictions = spoil(SCENES, 0.6, 3)
    metrics = evaluate(SCENES, predictions, QWEN, resamples=200).metrics
    for name in ("f1", "precision@0.5", "recall@0.5", "format_rate", "mAP", "AP50"):
        low, high = metrics["intervals"][name]
        assert low <= metrics[name] <= high, name
    assert metrics == evaluate(SCENES, predictions, QWEN, resamples=200).metrics
    other = evaluate(SCENES, predictions, QWEN, resamples=200, seed=1).metrics
    assert other["intervals"]["f1"] != metrics["intervals"]["f1"]
    assert other["mAP"] == metrics["mAP"]


def test_questions_about_one_image_are_drawn_together() -> None:
    pairs = [
        (replace(sample(str(k), (A, "cat")), image=f"{k % 2}.jpg"), prediction(str(k), answer()))
        for k in range(8)
    ]
    pairs[:2] = [(asked, prediction(asked.id, answer((A, "cat")))) for asked, _ in pairs[:2]]
    assert run(pairs).metrics["intervals"]["recall@0.5"] == [0.25, 0.25]
    one_image = run(pairs[::2]).metrics["intervals"]
    assert not {"recall@0.5", "mAP"} & set(one_image)


def test_grounding_region_and_counting_have_their_own_figures() -> None:
    expression = {"task": "grounding", "labels": ("the left cat",), "question": "the left cat"}
    metrics = run(
        [
            (sample("1", (A, "the left cat"), **expression), prediction("1", answer((A, "cat")))),
            (sample("2", (A, "the left cat"), **expression), prediction("2", answer((B, "cat")))),
            (
                sample("3", task="region", labels=(), question="?", answer="cat"),
                prediction("3", "<think>x</think><answer>Cat.</answer>"),
            ),
            (
                sample("4", task="counting", labels=(), question="?", answer="3"),
                prediction("4", "<think>x</think><answer>4</answer>"),
            ),
        ]
    ).metrics
    assert metrics["grounding_accuracy@0.5"] == 0.5
    assert metrics["accuracy"] == 0.5
    assert metrics["mAP"] is None
    assert metrics["negatives"] == {"n": 0, "accuracy": None}


def test_an_answer_without_tags_is_read_only_where_tags_are_optional() -> None:
    pairs = [
        (sample("1", (A, "cat")), prediction("1", json.dumps([{"bbox_2d": A, "label": "cat"}])))
    ]
    assert run(pairs).metrics["recall@0.5"] == 1.0
    strict = run(pairs, answer_tag="required").metrics
    assert strict["recall@0.5"] == 0.0
    assert strict["parse"]["missing"] == 1.0
    assert strict["protocol"]["answer_tag"] == "required"


def test_confidence_rules_rank_boxes() -> None:
    wrong_first = answer((B, "cat"), (A, "cat"))
    asked = sample("1", (A, "cat"))
    constant = run([(asked, prediction("1", wrong_first))]).metrics
    assert constant["mAP"] == pytest.approx(0.5)
    sure = prediction("1", wrong_first, box_logprobs=(-2.0, -0.1))
    assert run([(asked, sure)], confidence="logprob").metrics["mAP"] == pytest.approx(1.0)
    assert run([(asked, sure)], confidence="order").metrics["mAP"] == pytest.approx(0.5)
    two = [
        (asked, prediction("1", answer((A, "cat")))),
        (sample("2", (A, "cat")), prediction("2", answer((A, "cat"), (B, "cat")))),
        (sample("3", (A, "cat")), prediction("3", answer((A, "cat")))),
    ]
    # the second box of an answer ranks behind every first one
    assert run(two, confidence="order").metrics["mAP"] == pytest.approx(1.0)
    assert run(two).metrics["mAP"] == pytest.approx((67 + 34 * 3 / 4) / 101)


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: evaluate([sample("1")], {}, PLAIN), "1 of 1 samples have no prediction"),
    (
        lambda: evaluate([sample("1")], {k: prediction(k, "") for k in "12"}, PLAIN),
        "1 of 2 predictions are for other samples",
    ),
    (
        lambda: run([(sample("1"), prediction("1", "", finish_reason="error", error="timeout"))]),
        "ended in error .first: '1': timeout",
    ),
    (
        lambda: run([(sample("1"), prediction("1", answer((A, "cat"))))], confidence="logprob"),
        "no box_logprobs for 1 boxes",
    ),
    (
        lambda: run(
            [(sample("1"), prediction("1", answer((A, "cat")), box_logprobs=(float("nan"),)))],
            confidence="logprob",
        ),
        "prediction '1': box_logprobs .nan,.; expected logarithms of probabilities",
    ),
    (lambda: evaluate([], {}, PLAIN), "no samples"),
    (
        lambda: evaluate([sample("1"), sample("2"), sample("1", (A, "cat"))], {}, PLAIN),
        "2 samples have the id '1'",
    ),
    (  # every answer was wrong
        lambda: run([(sample("1", task="counting", answer="three"), prediction("1", "3"))]),
        "sample '1': the answer 'three' is no whole number in digits, as a count is",
    ),
    (  # was judged as a question about boxes
        lambda: run([(sample("1", task="region"), prediction("1", "cat"))]),
        "sample '1': a region sample without an answer",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_what_cannot_be_scored_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"crowds": "ignore"}, "crowds is 'ignore'; expected one of 'ignored', 'wrong'; did you"),
        ({"reading": "lenient"}, "reading is 'lenient'; expected one of 'strict', 'tolerant'"),
        ({"errors": "ignore"}, "errors is 'ignore'"),
        ({"confidence": "logprobs"}, "confidence is 'logprobs'"),
        ({"answer_tag": None}, "answer_tag is None"),
        ({"nms": 50}, "nms is 50; expected an IoU above 0 and up to 1"),
        ({"nms": 0}, "nms is 0"),
    ],
)
def test_rules_that_there_are_not_are_refused(rules: dict[str, Any], message: str) -> None:
    """They were followed as another rule, and stood in the protocol as they were written."""
    with pytest.raises(UsageError, match=message):
        run([(sample("1"), prediction("1", "None"))], **rules)


def test_the_size_that_the_model_saw_decides_the_frame() -> None:
    asked = sample("1", (A, "cat"))
    halved = answer(([0.0, 0.0, 42.0, 42.0], "cat"))
    seen = prediction("1", halved, input_size_wh=(84, 84))
    assert evaluate([asked], {"1": seen}, QWEN, resamples=0).metrics["f1"] == 1.0
    assert (
        evaluate(
            [asked], {"1": replace(seen, input_size_wh=(112, 112))}, QWEN, resamples=0
        ).metrics["f1"]
        < 1
    )


def test_compare_finds_the_better_run() -> None:
    before = evaluate(SCENES, spoil(SCENES, 0.9, 0), QWEN, resamples=0)
    after = evaluate(SCENES, spoil(SCENES, 0.2, 1), QWEN, resamples=0)
    difference = compare(before, after, resamples=200)
    for name in ("mAP", "f1", "recall@0.5"):
        row = difference["metrics"][name]
        assert row["low"] <= row["difference"] <= row["high"], name
        assert row["difference"] == pytest.approx(row["b"] - row["a"])
        assert row["low"] > 0
        assert row["better"] > row["worse"]
    assert difference["metrics"]["mAP"]["b"] == pytest.approx(after.metrics["mAP"], abs=1e-9)
    assert difference["flipped"]["gained"]
    back = compare(after, before, resamples=200)
    assert back["metrics"]["mAP"]["low"] == pytest.approx(-difference["metrics"]["mAP"]["high"])
    assert back["flipped"]["lost"] == difference["flipped"]["gained"]


def test_a_run_does_not_differ_from_itself() -> None:
    one = evaluate(SCENES, spoil(SCENES, 0.5, 0), QWEN, resamples=0)
    difference = compare(one, one, resamples=50)
    assert difference["flipped"] == {"gained": [], "lost": []}
    for name, row in difference["metrics"].items():
        assert (row["low"], row["difference"], row["high"]) == (0, 0, 0)
        signs = (None, None, None) if name == "tokens.mean" else (0, 0, 1.0)
        assert (row["better"], row["worse"], row["p_sign"]) == signs, name


def test_runs_under_different_protocols_are_compared_only_by_force() -> None:
    predictions = spoil(SCENES, 0.5, 0)
    one = evaluate(SCENES, predictions, QWEN, resamples=0, prompt="standard")
    other = evaluate(SCENES, predictions, QWEN, resamples=0, prompt="enhanced")
    with pytest.raises(UsageError, match="prompt: 'standard' and 'enhanced'"):
        compare(one, other, resamples=10)
    forced = compare(one, other, resamples=10, force=True)
    assert forced["protocol_differs"] == {"prompt": ["standard", "enhanced"]}


def test_runs_over_different_samples_are_not_compared() -> None:
    predictions = spoil(SCENES, 0.0, 0)
    one = evaluate(SCENES, predictions, QWEN, resamples=0)
    fewer = SCENES[1:]
    other = evaluate(fewer, {s.id: predictions[s.id] for s in fewer}, QWEN, resamples=0)
    with pytest.raises(DataError, match="1 ids stand in one of them only"):
        compare(one, other)
    moved = [replace(SCENES[0], objects=()), *fewer]
    other = evaluate(moved, predictions, QWEN, resamples=0)
    with pytest.raises(DataError, match="other targets"):
        compare(one, other)


def test_several_questions_about_one_image_are_one_piece_of_evidence() -> None:
    """Eight questions about two images: p was that of eight images."""
    asked = [sample(f"{k}", (A, "cat"), image=f"{k % 2}.jpg") for k in range(8)]
    texts = {s.id: answer((A, "cat")) for s in asked}
    before, after = (
        evaluate(asked, {k: prediction(k, text) for k, text in said.items()}, PLAIN, resamples=0)
        for said in (dict.fromkeys(texts, "None") | {"0": texts["0"]}, texts | {"0": "None"})
    )
    row = compare(before, after, resamples=10)["metrics"]["f1"]
    assert (row["better"], row["worse"], row["p_sign"]) == (2, 0, 0.5)


def test_a_false_box_where_there_was_none_counts_against_precision() -> None:
    """An answer without boxes has no precision: eight images that got a box counted as none."""
    asked = [sample(f"{k}", *[(A, "cat")] * (k < 2)) for k in range(10)]
    texts = {s.id: answer((A, "cat")) if s.objects else "None" for s in asked}
    invented = texts | {s.id: answer((B, "dog")) for s in asked if not s.objects}
    before, after = (
        evaluate(asked, {k: prediction(k, text) for k, text in said.items()}, PLAIN, resamples=0)
        for said in (texts, invented)
    )
    for name in ("precision@0.5", "f1@0.5", "f1", "negatives.accuracy"):
        row = compare(before, after, resamples=10)["metrics"][name]
        assert row["difference"] < 0
        assert (row["better"], row["worse"], row["p_sign"]) == (0, 8, 2 / 2**8), name


@pytest.mark.parametrize("seed", range(3))
def test_changes_of_single_images_sum_to_a_difference_of_the_same_sign(seed: int) -> None:
    a, b = (
        evaluate(SCENES, spoil(SCENES, share, seed + k), QWEN, resamples=0).rows
        for k, share in enumerate((0.6, 0.5))
    )
    for name, share in SHARES.items():
        values = [share_value(share, rows) for rows in (a, b)]
        if None not in values:
            wanted = np.sign(round(values[1] - values[0], 9))
            assert np.sign(round(share_changes(share, a, b).sum(), 9)) == wanted, name


@pytest.mark.parametrize(
    ("better", "worse", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (3, 3, 1.0), (2, 8, 0.109375)]
)
def test_sign_test(better: int, worse: int, p: float) -> None:
    assert sign_test(better, worse) == sign_test(worse, better) == p


def test_the_sign_test_of_many_images_is_the_normal_one() -> None:
    """It took 24 seconds of 8,000 images."""
    better, worse = 10_100, 9_900
    distance = (better - worse - 1) / np.sqrt(better + worse)  # in standard deviations
    assert sign_test(better, worse) == pytest.approx(math.erfc(distance / np.sqrt(2)), abs=1e-4)


def test_an_evaluation_survives_the_disk(tmp_path: Path) -> None:
    one = evaluate(SCENES, spoil(SCENES, 0.5, 0), QWEN, resamples=20)
    write_evaluation(tmp_path, one)
    back = read_evaluation(tmp_path)
    assert back.metrics == one.metrics
    difference = compare(one, back, resamples=20)
    assert all(row["difference"] == 0 for row in difference["metrics"].values())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no evaluation"):
        read_evaluation(tmp_path / "empty")
    with pytest.raises(UsageError, match="none: no such folder"):
        read_evaluation(tmp_path / "none")


def test_a_label_with_half_a_character_survives_the_disk(tmp_path: Path) -> None:
    completion = f"<answer>{json.dumps([{'bbox_2d': A, 'label': chr(0xD800)}])}</answer>"
    one = run([(sample("1", (A, "cat")), prediction("1", completion))])
    assert one.rows[0].predictions[0].label == chr(0xD800)
    write_evaluation(tmp_path, one)
    assert read_evaluation(tmp_path).rows == one.rows


def test_two_evaluations_in_one_folder_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (evaluate(SCENES, spoil(SCENES, s, 0), QWEN, resamples=0) for s in (0.1, 0.9))
    monkeypatch.setattr(files, "PATIENCE_S", 0.0)

    def write_beside(value: Any, handle: Any) -> None:
        with pytest.raises(UsageError, match="another process is writing it"):
            write_evaluation(tmp_path, two)
        files.dump_json(value, handle)

    monkeypatch.setattr("boxrl.evaluate.files.dump_json", write_beside)
    write_evaluation(tmp_path, one)
    back = read_evaluation(tmp_path)
    assert back.metrics == one.metrics
    assert [row.f1 for row in back.rows] == [row.f1 for row in one.rows]


CROWD = Object((0.0, 0.0, 60.0, 60.0), "dog", iscrowd=True)


def test_boxes_in_crowd_regions_are_neither_right_nor_wrong() -> None:
    """The region is no target, and no proof that no dog is there."""
    asked = replace(sample("1", (A, "cat")), labels=("cat", "dog"))
    asked = replace(asked, objects=(*asked.objects, CROWD))
    said = prediction("1", answer((A, "cat"), ((10.0, 10.0, 30.0, 30.0), "dog")))
    metrics = run([(asked, said)]).metrics
    assert metrics["precision@0.5"] == metrics["f1"] == 1.0
    assert metrics["mAP"] == pytest.approx(1.0)
    nothing = replace(asked, objects=(CROWD,))
    for text in (answer((CROWD.bbox, "dog")), "<answer>None</answer>"):
        metrics = run([(nothing, prediction("1", text))]).metrics
        assert metrics["negatives"]["n"] == 0  # a dog is there, so None is not proven right
        assert metrics["f1"] == 1.0
    unasked = replace(nothing, labels=("cat",))
    metrics = run([(unasked, prediction("1", answer((CROWD.bbox, "dog"))))]).metrics
    assert metrics["negatives"] == {"n": 1, "accuracy": 1.0}


def test_boxes_beyond_those_annotated_of_an_unexhausted_label_are_not_scored_as_false() -> None:
    """LVIS: `not_exhaustive_category_ids`."""
    asked = replace(sample("1", (A, "cat"), (B, "dog")), meta={"unexhausted": ["cat"]})
    said = prediction("1", answer((A, "cat"), (C, "cat"), (B, "dog"), (C, "dog")))
    evaluation = run([(asked, said)])
    kinds = [box.kind for box in evaluation.rows[0].predictions]
    assert kinds == ["right", "crowd", "right", "background"]
    assert (evaluation.rows[0].tp, evaluation.rows[0].fp) == (2, 1)
    assert evaluation.metrics["precision@0.5"] == 2 / 3
    assert evaluation.metrics["per_label"]["cat"]["AP"] == pytest.approx(1.0)
