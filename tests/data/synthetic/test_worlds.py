"""Laws of every synthetic world, checked against the pixels: colour and form are read from them."""

from __future__ import annotations

import colorsys
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from boxrl.data.lint import lint
from boxrl.data.samples import read_samples, render_sample
from boxrl.data.synthetic import (
    LABELS,
    SHAPES,
    WORLDS,
    Scene,
    World,
    draw_files,
    mixed_scenes,
    scenes,
)
from boxrl.errors import UsageError
from boxrl.families import FAMILIES
from boxrl.prompts import PROMPTS
from boxrl.rewards import build_rewards
from boxrl.rewards.gold_check import validate
from boxrl.types import Sample

Box = tuple[float, ...]

HUES = {"red": 0.0, "yellow": 0.14, "green": 0.36, "blue": 0.64}
FILLED = {"triangle": 0.5, "circle": np.pi / 4, "square": 1.0}
"""Share of its box that a form covers."""

STANDARD = "3f3d659883e2ca0a5a7edfe735a848e0dd7688a4d08241ec96b4d0b2735252cd"
"""Of the first 200 training samples of seed 0, as they were before there were other worlds."""

N = 20
"""Scenes of each world that are looked at."""

EVERY = pytest.mark.parametrize("name", WORLDS)


@cache
def drawn(name: str, count: int = N, split: str = "laws") -> list[Scene]:
    return list(scenes(WORLDS[name], count, seed=4, split=split))


def all_boxes(sample: Sample) -> list[Box]:
    return [o.bbox for o in sample.objects] + [tuple(o["bbox"]) for o in sample.meta["others"]]


def colourful(image: Image.Image) -> np.ndarray:
    """Bool "h w": where the image shows a colour, not a background."""
    smooth = np.asarray(image.filter(ImageFilter.MedianFilter(3))).astype(int)
    return smooth.max(2) - smooth.min(2) > 75


@cache
def seen(scene_of: str, number: int) -> dict[Box, str]:
    """Colour and form of what fills each box, asked for or not, from the pixels alone."""
    scene = drawn(scene_of)[number]
    pixels, coloured = np.asarray(scene.image), colourful(scene.image)
    found = {}
    for box in all_boxes(scene.sample):
        x1, y1, x2, y2 = (int(v) for v in box)
        mask = coloured[y1:y2, x1:x2]
        hue = colorsys.rgb_to_hsv(*pixels[y1:y2, x1:x2][mask].mean(0) / 255)[0]
        colour = min(HUES, key=lambda c: min(abs(hue - HUES[c]), 1 - abs(hue - HUES[c])))
        form = min(FILLED, key=lambda f: abs(mask.mean() - FILLED[f]))
        found[box] = f"{colour} {form}"
    return found


def read_scenes(name: str) -> Iterator[tuple[Sample, dict[Box, str]]]:
    """Each sample of a world with what its pixels say."""
    for number, scene in enumerate(drawn(name)):
        yield scene.sample, seen(name, number)


def asked_boxes(sample: Sample) -> dict[Box, str]:
    return {item.bbox: item.label for item in sample.objects}


@EVERY
def test_equal_seeds_draw_equal_scenes(name: str) -> None:
    for first, second in zip(scenes(WORLDS[name], 4, 4, "laws"), drawn(name)[:4], strict=True):
        assert first.sample == second.sample
        assert first.image.tobytes() == second.image.tobytes()


@EVERY
def test_no_test_scene_is_a_training_scene(name: str) -> None:
    train = {scene.image.tobytes() for scene in drawn(name, split="train")}
    assert len(train) == N // WORLDS[name].questions
    assert not train & {scene.image.tobytes() for scene in drawn(name, split="test")}


def test_no_test_scene_of_one_world_is_a_training_scene_of_another() -> None:
    train = {scene.image.tobytes() for name in WORLDS for scene in drawn(name, split="train")}
    test = {scene.image.tobytes() for name in WORLDS for scene in drawn(name, split="test")}
    assert not train & test


def test_the_standard_world_stays_as_the_packaged_weights_were_taught_on_it() -> None:
    drawn = (render_sample(scene.sample) for scene in scenes(World(), 200, 0, "train"))
    lines = [json.dumps(json.loads(line), ensure_ascii=False) for line in drawn]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == STANDARD


@EVERY
def test_boxes_are_inside_apart_and_around_everything_that_has_a_colour(name: str) -> None:
    for scene in drawn(name):
        coloured = colourful(scene.image)
        covered = np.zeros_like(coloured)
        for x1, y1, x2, y2 in all_boxes(scene.sample):
            assert 0 <= x1 < x2 <= scene.sample.width
            assert 0 <= y1 < y2 <= scene.sample.height
            box = slice(int(y1), int(y2)), slice(int(x1), int(x2))
            assert not covered[box].any()  # touches no other
            covered[box] = True
            rows, columns = (np.flatnonzero(coloured[box].any(axis)) for axis in (1, 0))
            assert (rows[-1] - rows[0]) >= (y2 - y1) - 8  # tight, but for the tip of a triangle
            assert (columns[-1] - columns[0]) >= (x2 - x1) - 4
        assert (coloured & ~covered).mean() < 0.003  # noise; the smallest shape covers .004


@EVERY
def test_what_is_not_asked_for_is_what_its_label_says(name: str) -> None:
    for sample, labels in read_scenes(name):
        for other in sample.meta["others"]:
            assert labels[tuple(other["bbox"])] == other["label"]


@pytest.mark.parametrize("name", [name for name, world in WORLDS.items() if world.ask == "labels"])
def test_objects_are_exactly_those_of_the_labels_asked_for(name: str) -> None:
    for sample, labels in read_scenes(name):
        wanted = {box: what for box, what in labels.items() if what in sample.labels}
        assert asked_boxes(sample) == wanted


def test_relations_hold_for_the_objects_and_for_nothing_else_of_their_kind() -> None:
    words = Counter[str]()
    for sample, labels in read_scenes("relations"):
        (label,) = sample.labels
        first, second, *relation, third, fourth = label.split()
        words[" ".join(relation)] += 1
        ((ax1, ay1, ax2, ay2),) = (b for b, what in labels.items() if what == f"{third} {fourth}")
        those = [box for box, what in labels.items() if what == f"{first} {second}"]
        holds = {
            "left of": lambda box: box[2] <= ax1,  # noqa: B023
            "right of": lambda box: box[0] >= ax2,  # noqa: B023
            "above": lambda box: box[3] <= ay1,  # noqa: B023
            "below": lambda box: box[1] >= ay2,  # noqa: B023
        }[" ".join(relation)]
        assert those
        assert {box for box in those if holds(box)} == set(asked_boxes(sample))
        assert set(asked_boxes(sample).values()) <= {label}
    assert set(words) == {"left of", "right of", "above", "below"}


def test_negations_leave_out_the_colour_and_nothing_else() -> None:
    for sample, labels in read_scenes("negation"):
        (label,) = sample.labels
        shape, _, _, _, colour = label.split()
        assert shape in SHAPES
        assert f"{colour} {shape}" in labels.values()  # what must not be boxed is there
        wanted = {b for b, what in labels.items() if shape in what and colour not in what}
        assert set(asked_boxes(sample)) == wanted


def test_counts_are_right() -> None:
    answers = Counter[str]()
    for sample, labels in read_scenes("counting"):
        (label,) = sample.labels
        assert label in (sample.question or "")
        count = sum(what == label for what in labels.values())
        assert sample.answer == str(count)
        answers[str(count)] += 1
    assert set(answers) == {"0", "1", "2", "3", "4", "5"}


def test_the_option_is_what_stands_in_the_region() -> None:
    elsewhere = 0
    for sample, labels in read_scenes("region"):
        (region,) = sample.objects
        assert labels[region.bbox] == sample.answer == region.label
        assert sample.answer in sample.labels
        assert len(set(sample.labels)) == 4
        others = {what for what in labels.values() if what != sample.answer}
        elsewhere += bool(others & set(sample.labels))
    assert elsewhere > 0.7 * N  # most questions cannot be answered without the coordinates


@EVERY
def test_negatives_are_as_many_as_asked_for_where_a_world_has_any(name: str) -> None:
    for p_absent in (0.0, 1.0):
        draw = mixed_scenes(name, 6, 1, "share", p_absent)
        negatives = sum(not scene.sample.objects for scene in draw)
        without = 3 if name == "near_miss_pairs" else 0
        assert negatives == (6 * p_absent if WORLDS[name].p_absent else without)


def shares(name: str) -> list[float]:
    """Areas of all objects, as shares of the image."""
    return [
        (x2 - x1) * (y2 - y1) / scene.sample.width / scene.sample.height
        for scene in drawn(name)
        for x1, y1, x2, y2 in all_boxes(scene.sample)
    ]


def test_small_is_smaller_and_large_is_larger_than_anything_in_the_standard_world() -> None:
    assert max(shares("small")) < min(shares("standard"))
    assert min(shares("large")) >= max(shares("standard"))


def test_a_single_box_is_one_label_and_one_object() -> None:
    for scene in drawn("single_box"):
        assert len(scene.sample.labels) == len(scene.sample.objects) == 1


def test_pairs_ask_the_same_image_for_what_is_there_and_for_what_is_not() -> None:
    mixed = list(mixed_scenes({"near_miss_pairs": 1, "standard": 1}, 2 * N, 4, "pairs"))
    mixed = [scene for scene in mixed if scene.sample.meta["source"] == "near_miss_pairs"]
    for found in (drawn("near_miss_pairs"), mixed):
        for present, absent in zip(found[::2], found[1::2], strict=True):
            assert np.array_equal(present.image, absent.image)
            assert sorted(all_boxes(present.sample)) == sorted(all_boxes(absent.sample))
            assert present.sample.objects
            assert not absent.sample.objects
            (one,), (other,) = present.sample.labels, absent.sample.labels
            assert len(set(one.split()) & set(other.split())) == 1
            assert other not in {item["label"] for item in absent.sample.meta["others"]}
            assert present.sample.image == absent.sample.image
            assert present.sample.id != absent.sample.id


def test_fours_ask_the_same_image_for_what_is_there_and_then_for_what_is_not() -> None:
    found = [scene.sample for scene in drawn("fours")]
    for start in range(0, len(found), 4):
        four = found[start : start + 4]
        assert len({sample.image for sample in four}) == 1
        assert len({tuple(sorted(all_boxes(sample))) for sample in four}) == 1
        others = {item["label"] for item in four[0].meta["others"]}
        n_there = min(len(others | set(four[0].labels)), 4)
        assert [bool(sample.objects) for sample in four] == [n < n_there for n in range(4)]
        assert len({sample.labels for sample in four}) == 4
        for sample in four:
            assert {item.label for item in sample.objects} <= set(sample.labels)
            assert not {item["label"] for item in sample.meta["others"]} & set(sample.labels)


def test_near_misses_differ_in_one_word_from_a_label_asked_for() -> None:
    for scene in drawn("near_miss"):
        asked = [set(label.split()) for label in scene.sample.labels]
        for other in scene.sample.meta["others"]:
            assert any(len(set(other["label"].split()) & words) == 1 for words in asked)


def test_crowded_scenes_hold_several_of_one_label_among_many() -> None:
    present = [scene.sample for scene in drawn("crowded") if scene.sample.objects]
    for sample in present:
        assert max(Counter(item.label for item in sample.objects).values()) >= 3
    assert np.mean([len(all_boxes(sample)) for sample in present]) > 7


def test_out_of_domain_widths_and_backgrounds_never_stand_in_the_training_world() -> None:
    usual = set(WORLDS["standard"].sides)
    for scene in drawn("out_of_domain"):
        widths = {
            (box[2] - box[0]) / WORLDS["out_of_domain"].scale for box in all_boxes(scene.sample)
        }
        assert not widths & usual
        assert {o.label for o in scene.sample.objects} <= set(LABELS)
        edge = np.asarray(scene.image)[:3, :, :].astype(float)
        assert edge.std() > 15  # the noise of the training world has 7


def test_mixtures_have_exact_shares_and_say_where_each_scene_is_from() -> None:
    mixed = [s.sample for s in mixed_scenes({"single_box": 3, "region": 1}, 20, 0, "train")]
    assert Counter(sample.meta["source"] for sample in mixed) == {"single_box": 15, "region": 5}
    assert all((s.task == "region") == (s.meta["source"] == "region") for s in mixed)
    assert len({sample.id for sample in mixed}) == 20
    assert [sample.task for sample in mixed] != sorted(sample.task for sample in mixed)


def test_one_world_by_name_is_that_world() -> None:
    for first, second in zip(mixed_scenes("small", 5, 4, "laws"), drawn("small"), strict=False):
        assert first.sample == second.sample


@pytest.mark.parametrize(
    ("worlds", "message"),
    [
        ("moon", "unknown world 'moon'; worlds: standard, small"),
        ({}, "expected the name of a world"),
        ({"small": -1}, "world 'small': share -1; expected a positive number"),
    ],
)
def test_a_wrong_mixture_is_refused_in_words(worlds: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        next(mixed_scenes(worlds, 1, 0, "train"))


@EVERY
def test_files_are_clean_and_gold_answers_earn_every_reward(name: str, tmp_path: Path) -> None:
    file = draw_files(name, 6, 0, "test", tmp_path)
    found = lint(file, tmp_path / "images")
    assert found.rows == 6
    assert [defect for defect in found.defects if defect.severity == "error"] == []
    rewards = build_rewards(["format", "f1", "weighted_sum", "choice", "count"])
    outcome = validate(read_samples(file), FAMILIES["qwen2.5-vl"], PROMPTS["standard"], rewards)
    assert outcome.problems == []
