"""The gold answer earns everything in each trainer, whatever its pixel limits."""

import json
import logging
import pickle

import numpy as np
import pytest

from boxrl.data.samples import render_sample
from boxrl.engines.torchvision_repair import repair_torchvision
from boxrl.errors import DataError, UsageError
from boxrl.families import build_family
from boxrl.families.image_paths import build_image_path
from boxrl.prompts import render_answer
from boxrl.rewards import easyr1, verl
from boxrl.rewards.swift import build_orms
from boxrl.rewards.trl import TRLReward
from boxrl.types import Detections, Object, Sample
from tests.support import trainers

SIZES = [
    (384, 303), (502, 343), (451, 300), (512, 512), (640, 427), (97, 61), (1280, 720), (810, 1080),
    (1093, 300), (1920, 1280), (2048, 1536), (3000, 4000), (4000, 3000), (3840, 1000),
]  # fmt: skip
LIMITS = [(3136, 200_704), (262_144, 1_003_520), (3136, 12_845_056), (50_176, 401_500)]
FOLDER_LIMITS = (3136, 802_816)
"""Of the processor in `model_dir`, tighter than some limits of the trainers."""


@pytest.fixture(autouse=True, scope="module")
def transformers_importable():
    repair_torchvision()


@pytest.fixture
def model_dir(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    low, high = FOLDER_LIMITS
    image = {"min_pixels": low, "max_pixels": high, "patch_size": 14, "merge_size": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(image))
    return tmp_path


def a_sample(size_wh):
    width, height = size_wh
    boxes = [(0.1, 0.15, 0.6, 0.7), (0.5, 0.4, 0.95, 0.9)]
    objects = [
        Object((x1 * width, y1 * height, x2 * width, y2 * height), label)
        for (x1, y1, x2, y2), label in zip(boxes, ("cat", "dog"), strict=True)
    ]
    return Sample("1", "1.jpg", width, height, "detection", ("cat", "dog"), tuple(objects))


def gold(sample, seen_wh):
    """What a perfect model writes that sees the image at that size."""
    family = build_family("qwen2.5-vl")
    answer = render_answer(Detections.from_objects(sample.objects), family, sample.size_wh, seen_wh)
    return f"<think>a</think><answer>{answer}</answer>"


def reward_of_verl(text, line, **settings):
    return verl.compute_score("d", text, line, {}, rewards="f1", **settings)["score"]


def reward_of_easyr1(text, line, **settings):
    row = {"response": text, "response_length": 9, "ground_truth": line}
    return easyr1.compute_score(row, rewards="f1", **settings)["overall"]


def reward_of_swift(text, line, **settings):
    reward = build_orms("f1", **settings)["boxrl_f1"]()
    return reward([text], sample=[line], response_token_ids=[[1]])[0]


def reward_of_trl(text, line, **settings):
    reward = pickle.loads(pickle.dumps(TRLReward("f1", **settings)))
    return reward([text], sample=[line], completion_ids=[[1]])[0]


ADAPTERS = {
    "trl": (reward_of_trl, trainers.trl),
    "verl": (reward_of_verl, trainers.verl),
    "easyr1": (reward_of_easyr1, trainers.easyr1),
    "swift": (reward_of_swift, trainers.swift),
}


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("name", ADAPTERS)
def test_the_gold_answer_earns_one_through_the_trainers_own_image_path(name, limits):
    pay, shown = ADAPTERS[name]
    family = build_family("qwen2.5-vl")
    named = dict(zip(("min_pixels", "max_pixels"), limits, strict=True))
    for size in SIZES:
        sample = a_sample(size)
        seen = shown(size, (family.min_pixels, family.max_pixels), limits)
        line = render_sample(sample)
        assert pay(gold(sample, seen), line, family="qwen2.5-vl", **named) == 1.0, size
        given = build_family("qwen2.5-vl", **named)
        if name in ("trl", "swift"):  # where the family's limits are the only ones
            assert pay(gold(sample, seen), line, family=given) == 1.0, size


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("name", ADAPTERS)
def test_the_processors_own_limits_come_from_the_models_folder(name, limits, model_dir):
    pay, shown = ADAPTERS[name]
    named = dict(zip(("min_pixels", "max_pixels"), limits, strict=True))
    processor = limits if name == "trl" else FOLDER_LIMITS
    for size in SIZES:
        sample, seen = a_sample(size), shown(size, processor, limits)
        text, line = gold(sample, seen), render_sample(sample)
        if limits[0] > FOLDER_LIMITS[1]:
            continue
        assert pay(text, line, model=str(model_dir), **named) == 1.0, size


DEFAULTS = {
    "trl": FOLDER_LIMITS,
    "verl": (3136, 12_845_056),
    "easyr1": (262_144, 4_194_304),
    "swift": (3136, 12_845_056),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_limits_that_are_left_out_are_the_trainers_own_and_told(name, model_dir, caplog):
    pay, shown = ADAPTERS[name]
    with caplog.at_level(logging.WARNING):
        for size in SIZES:
            seen = shown(size, FOLDER_LIMITS, DEFAULTS[name])
            text, line = gold(a_sample(size), seen), render_sample(a_sample(size))
            assert pay(text, line, model=model_dir) == 1.0, size
    told = [record.message for record in caplog.records]
    if name == "trl":  # the processor's own are in the folder
        assert told == []
    else:
        assert "repeat them as min_pixels and max_pixels" in told[0]
        assert f"{DEFAULTS[name][0]:,} to {DEFAULTS[name][1]:,} pixels" in told[0]


def test_easyr1s_way_is_a_frame_of_its_own():
    """Scaled, then resized: not what the processor makes of the whole image."""
    path = build_image_path("easyr1", build_family("qwen2.5-vl"), 262_144, 1_003_520)
    one_step = build_family("qwen2.5-vl", 262_144, 1_003_520)
    apart = [size for size in SIZES if path.input_size_wh(size) != one_step.input_size_wh(size)]
    assert apart


def test_frames_that_no_resizing_moves_take_a_name_alone(caplog):
    sample = a_sample((1920, 1280))
    family = build_family("qwen3-vl")
    answer = render_answer(Detections.from_objects(sample.objects), family, sample.size_wh)
    text, line = f"<answer>{answer}</answer>", render_sample(sample)
    for pay, _ in ADAPTERS.values():
        assert pay(text, line, family="qwen3-vl") > 0.99
        assert pay(text, line, family=family) > 0.99
    assert not caplog.records


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "name the model by one of model=FOLDER and family=NAME"),
        ({"family": "plain", "model": "x"}, "name the model by one of"),
        ({"family": "qwen"}, "unknown family 'qwen'"),
        ({"model": "no/such"}, "no config.json"),
        ({"family": "internvl", "max_pixels": 9999}, "has no pixel limits"),
        ({"family": "qwen2.5-vl", "min_pixels": 9000, "max_pixels": 8000}, "is above max_pixels"),
        ({"family": "qwen2.5-vl", "max_pixels": 100}, "below one patch"),
    ],
)
def test_wrong_settings_are_one_line(name, settings, message):
    with pytest.raises(UsageError, match=message) as told:
        ADAPTERS[name][0]("None", render_sample(a_sample((640, 480))), **settings)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["verl", "easyr1"])
def test_unknown_settings_are_errors(name):
    line = render_sample(a_sample((640, 480)))
    with pytest.raises(UsageError, match="unknown setting 'max_pixel'; did you mean max_pixels"):
        ADAPTERS[name][0]("None", line, family="plain", max_pixel=3)


def test_easyr1s_own_limits_contradict_a_maximum_below_them():
    line = render_sample(a_sample((640, 480)))
    with pytest.raises(UsageError, match="min_pixels 262,144 is above max_pixels 200,704"):
        reward_of_easyr1("None", line, family="qwen2.5-vl", max_pixels=200_704)


def test_verl_names_its_own_further_arguments():
    line = render_sample(a_sample((640, 480)))
    score = verl.compute_score(
        data_source="d", solution_str="None", ground_truth=line, extra_info={}, family="plain",
        reward_router_address="127.0.0.1:1", reward_model_tokenizer=None,
    )  # fmt: skip
    assert score["score"] == 0.0


def test_swift_reads_its_own_environment(monkeypatch):
    monkeypatch.setenv("MAX_PIXELS", "200704")
    for size in SIZES:
        sample = a_sample(size)
        seen = trainers.swift(size, None, (3136, 200_704))
        assert reward_of_swift(gold(sample, seen), render_sample(sample), family="qwen2.5-vl") == 1
    build_orms("f1", family="internvl")  # has none, and the variable is for others
    monkeypatch.setenv("MAX_PIXELS", "1e6")
    with pytest.raises(UsageError, match="MAX_PIXELS: expected an integer"):
        build_orms("f1", family="qwen2.5-vl")


@pytest.mark.parametrize("name", ["verl", "easyr1", "swift"])
def test_an_image_that_a_trainer_cannot_show_is_told(name):
    path = build_image_path(name, build_family("qwen2.5-vl"), 784, 784 * 4)
    with pytest.raises(DataError, match="crop it or leave it out"):
        path.input_size_wh((4000, 19))


@pytest.mark.parametrize("limits", LIMITS[:2], ids=str)
def test_transformers_processor_shows_what_the_family_says(limits):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    low, high = limits
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": low, "longest_edge": high})
    family = build_family("qwen2.5-vl", *limits)
    for width, height in SIZES:
        pixels = np.zeros((height, width, 3), np.uint8)
        grid = processor([pixels], return_tensors="np")["image_grid_thw"][0].tolist()
        assert (grid[2] * 14, grid[1] * 14) == family.input_size_wh((width, height))
