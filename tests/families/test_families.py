"""Frames and syntaxes: parse is the inverse of render, for every family."""

import ast
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES, Family, build_family, read_family, smart_resize
from boxrl.families.syntaxes import SYNTAXES
from boxrl.parsing import parse
from boxrl.prompts import render_answer
from boxrl.types import Detections

SOURCE = Path(__file__).parents[2] / "src/boxrl"
GOLDEN = json.loads((Path(__file__).parents[1] / "golden/families/transcripts.json").read_text())
LABELS = ("cat", "traffic light", "bird (flying), left", "the man; in red", "Ж 猫", 'a "b"')


@pytest.mark.parametrize(
    ("size_hw", "resized_hw"),
    [
        ((480, 640), (476, 644)),
        ((427, 640), (420, 644)),
        ((254, 340), (252, 336)),
        ((1080, 1920), (1092, 1932)),
        ((4000, 6000), (2912, 4368)),  # over max_pixels
        ((10, 300), (28, 308)),
        ((14, 14), (56, 56)),  # under min_pixels
        ((98, 98), (112, 112)),  # 3.5 rounds half to even: 4
        ((42, 70), (56, 56)),  # 1.5 and 2.5 both round to 2
    ],
)
def test_smart_resize_of_qwen2_5(size_hw, resized_hw):
    got = smart_resize(size_hw[::-1], factor=28, min_pixels=3136, max_pixels=12_845_056)
    assert got == resized_hw[::-1]


def test_smart_resize_with_the_class_default_of_max_pixels():
    assert smart_resize((1920, 1080), 28, 3136, 1_003_520) == (1316, 728)


def test_smart_resize_of_qwen3():
    assert FAMILIES["qwen3-vl"].input_size_wh((640, 480)) == (640, 480)


def test_smart_resize_refuses_what_the_processor_refuses():
    with pytest.raises(DataError, match="200 times"):
        smart_resize((2010, 10), 28, 3136, 12_845_056)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["family"])
def test_golden_transcripts(case):
    parsed = parse(case["completion"], FAMILIES[case["family"]], tuple(case["size_wh"]))
    assert parsed.status == case["status"]
    np.testing.assert_allclose(
        parsed.detections.boxes, np.reshape(case["boxes"], (-1, 4)), atol=1e-9
    )
    assert list(parsed.detections.labels) == case["labels"]


def test_every_family_has_a_golden_transcript():
    assert {case["family"] for case in GOLDEN} == set(FAMILIES)


def grid_step(family, size_wh):
    """Pixels of the original image per step of the family's coordinates, for x and y."""
    width, height = size_wh
    if family.frame in ("grid", "bins", "shares"):
        return width / family.grid, height / family.grid
    seen = family.input_size_wh(size_wh)
    return width / seen[0], height / seen[1]


def random_case(rng):
    """A size of any usual shape and a box in it: ordinary, thin, tiny, full, or at an edge."""
    height = rng.choice([rng.randint(20, 4000), rng.randint(1, 20)])
    width = rng.randint(max(1, height // 100), min(100 * height, 4000))
    box = []
    for side in (width, height):
        start, end = sorted(rng.uniform(0, side) for _ in range(2))
        kind = rng.random()
        if kind < 0.1:
            start, end = 0.0, float(side)
        elif kind < 0.2:
            start, end = side * rng.uniform(0.99, 0.9999), float(side)
        elif kind < 0.5:
            end = min(start + rng.uniform(0.001, 6), float(side))
        box.append((start, end))
    (x1, x2), (y1, y2) = box
    return (width, height), (x1, y1, x2, y2)


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_boxes_come_back_within_half_a_step(family, count):
    rng = random.Random(family.name)
    thin = 0
    for _ in range(count):
        size, box = random_case(rng)
        label = rng.choice(LABELS)
        text = render_answer(Detections(np.array([box]), (label,)), family, size)
        parsed = parse(f"<answer>{text}</answer>", family, size)
        assert parsed.status == "ok"
        assert parsed.detections.labels == (label,)
        back = parsed.detections.boxes[0]
        assert 0 <= back[0] < back[2] <= size[0]
        assert 0 <= back[1] < back[3] <= size[1]
        middle = 0.5 if family.frame == "bins" else 0.0
        for axis, step in enumerate(grid_step(family, size)):
            start, end = box[axis] / step, box[axis + 2] / step
            nearest = 0.5
            if end - start < 1:  # no two grid lines may lie within half a step of its ends
                limit = size[axis] / step - 2 * middle
                nearest = max(0.5, smallest_error(start - middle, end - middle, limit))
                thin += nearest > 0.5
            assert abs(back[axis] / step - start) <= nearest + 1e-6
            assert abs(back[axis + 2] / step - end) <= nearest + 1e-6
    assert thin > count / 100


def smallest_error(start, end, limit):
    """How far the ends of the nearest side of whole steps, at least one, lie; tries them all."""
    starts = range(math.floor(start) - 1, math.ceil(start) + 2)
    ends = range(math.floor(end) - 1, math.ceil(end) + 2)
    sides = [(i, j) for i in starts for j in ends if 0 <= i < j <= round(limit)]
    return min(max(abs(i - start), abs(j - end)) for i, j in sides)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_many_boxes_keep_their_order_and_labels(family):
    boxes = np.array([[0.0, 0, 40, 40], [40, 0, 80, 40], [0, 40, 40, 80], [40, 40, 80, 80]])
    labels = ("cat", "cat", "dog", "cat")
    text = render_answer(Detections(boxes, labels), family, (80, 80))
    parsed = parse(f"<answer>{text}</answer>", family, (80, 80))
    assert parsed.detections.labels == labels
    np.testing.assert_allclose(parsed.detections.boxes, boxes, atol=0.05)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_what_is_written_is_a_number_of_steps(family):
    boxes = np.array([[1.0, 2, 3, 4], [10, 20, 630, 470]])
    written = np.array(family.render_boxes(boxes, (640, 480)))
    steps = written * family.grid if family.frame == "shares" else written
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    np.testing.assert_allclose(family.to_steps(boxes, (640, 480)), steps, atol=0.5 + 1e-9)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_no_box_is_none(family):
    text = render_answer(Detections.from_objects(()), family, (80, 80))
    assert parse(f"<answer>{text}</answer>", family, (80, 80)).status == "empty"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_family_also_reads_json_with_its_own_key(family):
    text = f'<answer>[{{"{family.box_key}": [1, 2, 30, 40], "label": "cat"}}]</answer>'
    parsed = parse(text, family, (1000, 1000))
    assert parsed.items == [((1, 2, 30, 40), "cat")]
    assert parsed.status == "ok"


def test_a_side_that_rounds_to_nothing_is_one_step_wide():
    boxes = np.array([[10.2, 5.0, 10.4, 9.0], [0.0, 0, 0.1, 1], [79.9, 0, 80, 1]])
    rendered = FAMILIES["plain"].render_boxes(boxes, (80, 80))
    assert rendered == [[10, 5, 11, 9], [0, 0, 1, 1], [79, 0, 80, 1]]


def write_config(folder, model_type, processor=None):
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        (kind, family.name)
        for family in FAMILIES.values()
        for kind in family.model_types
        if family.runs and family.name != "rex-omni"  # whose config is a Qwen2.5-VL's
    ],
)
def test_the_family_is_found_from_the_model_config(tmp_path, model_type, name):
    assert read_family(write_config(tmp_path, model_type)).name == name


def test_pixel_limits_come_from_the_models_own_processor(tmp_path):
    limits = {"min_pixels": 3136, "max_pixels": 401_408, "patch_size": 14, "merge_size": 2}
    family = read_family(str(write_config(tmp_path, "qwen2_5_vl", limits)))
    assert family.max_pixels == 401_408
    assert family.input_size_wh((1920, 1080)) == (840, 448)


def test_a_family_that_shares_its_model_type_is_found_by_name(tmp_path):
    assert read_family(write_config(tmp_path, "qwen2_5_vl"), "rex-omni").grid == 999


@pytest.mark.parametrize(
    "wrong", [{"frame": "normalized"}, {"frame": "Grid"}, {"axes": "yx"}, {"resizing": "Smart"}]
)
def test_a_family_made_in_python_has_a_frame_that_there_is(wrong):
    """Else its boxes would be read as original pixels, or in the usual order."""
    with pytest.raises(UsageError, match=f"family 'mine': {next(iter(wrong))} .* is none of"):
        Family("mine", **{"frame": "grid", "grid": 1000, **wrong})


def test_a_family_that_is_not_run_is_refused_as_a_model(tmp_path):
    with pytest.raises(UsageError, match="reads answers of family 'florence-2' and does not run"):
        read_family(write_config(tmp_path, "florence2"))


def test_a_family_that_contradicts_the_config_is_refused(tmp_path):
    with pytest.raises(UsageError, match="belongs to 'qwen3-vl'"):
        read_family(write_config(tmp_path, "qwen3_vl"), "qwen2.5-vl")


def test_an_unknown_model_type_needs_a_named_family(tmp_path):
    config = {"model_type": "llava", "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="--family"):
        read_family(tmp_path)
    assert read_family(tmp_path, "plain").name == "plain"


SMOLVLM = {"image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": 2048}}


def test_a_named_family_gives_no_limits_to_a_processor_of_another_kind(tmp_path):
    """It would take them for lengths of sides, and its images are of no size that is known."""
    (tmp_path / "config.json").write_text('{"model_type": "smolvlm", "vision_config": {}}')
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SMOLVLM))
    family = read_family(tmp_path, "qwen3-vl")
    assert (family.frame, family.has_limits) == ("grid", False)
    with pytest.raises(UsageError, match="no pixel limits"):
        read_family(tmp_path, "qwen3-vl", max_pixels=401_408)
    with pytest.raises(UsageError, match="image processor is of another kind"):
        read_family(tmp_path, "qwen2.5-vl")


def test_the_makers_own_folders_of_internvl_state_a_side_alone(tmp_path):
    size = {"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 448, "size": 448}
    family = read_family(write_config(tmp_path, "internvl_chat", size))
    assert (family.name, family.side) == ("internvl", 448)


def test_an_adapter_is_told_apart_from_a_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds an adapter .*: boxrl export"):
        read_family(tmp_path)


def test_a_model_without_vision_is_told_apart(tmp_path):
    write_config(tmp_path, "qwen2")
    with pytest.raises(UsageError, match=r"a model without vision \(model_type 'qwen2'"):
        read_family(tmp_path)


def test_an_unknown_family_lists_the_known():
    with pytest.raises(UsageError, match=r"qwen2\.5-vl"):
        build_family("gpt")


NAMED_ELSEWHERE = {
    "engines/tiny/model.py": "the tiny VLM is a Qwen2.5-VL, with a tokenizer of its own",
    "engines/tiny/teach.py": "the same",
    "engines/tiny/tokenizer.py": "the same",
    "rewards/easyr1.py": "default family",
    "rewards/verl.py": "default family",
}


def test_facts_of_a_family_stand_in_its_record_alone():
    facts = {name for family in FAMILIES.values() for name in (family.name, *family.model_types)}
    facts |= {token for family in FAMILIES.values() for token in family.image_tokens}
    facts |= set(SYNTAXES)
    facts -= {"plain", "json", "loc", "<image>"}  # a default, and words of other meanings
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        if not place.startswith("families/") and place not in NAMED_ELSEWHERE:
            constants = ast.walk(ast.parse(path.read_text()))
            texts = {n.value for n in constants if isinstance(n, ast.Constant)}
            if named := facts & {text for text in texts if isinstance(text, str)}:
                found[place] = named
    assert found == {}
