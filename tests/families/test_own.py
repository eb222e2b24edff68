"""Families of one's own, from YAML files, and model types that nobody knows."""

import json

import numpy as np
import pytest

from boxrl.errors import UsageError
from boxrl.families import build_family, read_family
from boxrl.parsing import parse


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_a_family_is_described_by_its_parts(write):
    name = write("frame: shares\ngrid: 100\naxes: yxyx\nbox_key: where\nimage_tokens: [<img>]\n")
    family = build_family(name)
    assert (family.name, family.image_tokens) == (name, ("<img>",))
    found = parse(
        '<answer>[{"where": [0.1, 0.2, 0.5, 0.6], "label": "a"}]</answer>', family, (10, 20)
    )
    np.testing.assert_allclose(found.detections.boxes, [[2, 2, 6, 10]])
    assert family.render_boxes(found.detections.boxes, (10, 20)) == [[0.1, 0.2, 0.5, 0.6]]


def test_a_family_may_start_from_a_known_one(write, tmp_path):
    name = write("like: qwen2.5-vl\nframe: grid\ngrid: 1000\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    family = read_family(tmp_path, name, max_pixels=401_408)
    assert (family.factor, family.max_pixels, family.grid) == (28, 401_408, 1000)


def write_folder(folder, kind, **stated):
    (folder / "config.json").write_text('{"model_type": "qwen3_vl", "vision_config": {}}')
    image = {"image_processor_type": kind, **stated}
    (folder / "preprocessor_config.json").write_text(json.dumps(image))
    return folder


def test_what_a_family_s_file_says_of_resizing_holds_before_the_folder(write, tmp_path):
    size = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    folder = write_folder(tmp_path, "Qwen2VLImageProcessorFast", size=size)
    family = read_family(folder, write("like: qwen2.5-vl\nmax_pixels: 401408\n"))
    assert (family.min_pixels, family.max_pixels) == (65_536, 401_408)
    assert read_family(folder, family.name, max_pixels=802_816).max_pixels == 802_816
    with pytest.raises(UsageError, match="min_pixels 65,536 is above max_pixels 50,000; name both"):
        read_family(folder, write("like: qwen2.5-vl\nmax_pixels: 50000\n"))
    assert read_family(folder, family.name, 3136).limits() == {
        "min_pixels": 3136, "max_pixels": 50_000, "factor": 28,
    }  # fmt: skip


def test_a_family_s_file_may_say_how_a_processor_of_another_kind_resizes(write, tmp_path):
    folder = write_folder(tmp_path, "ForeignImageProcessor", size={"longest_edge": 2048})
    with pytest.raises(UsageError, match=r"another kind; .* state its resizing in a .yaml file"):
        read_family(folder, write("like: qwen2.5-vl\n"))
    family = read_family(folder, write("like: qwen2.5-vl\nresizing: smart\n"))
    assert family.max_pixels == 16384 * 28 * 28


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        (
            "frame: grids\ngird: 1000\nfactor: -1\n",
            ["frame: 'grids' is none of", "gird: no such field; did you mean grid?", "factor: exp"],
        ),
        ("frame: grid\n", ["grid: missing; the frame grid needs"]),
        ("box_key: a\n", ["frame: missing; one of original"]),
        ("frame: resized\n", ["resizing: the frame resized needs one of smart, glm"]),
        ("frame: original\nresizing: smart\n", ["factor: missing", "min_pixels: ", "max_pixels: "]),
        ("frame: original\nimage_tokens: a\nbox_key: 3\n", ["image_tokens: exp", "box_key: exp"]),
        ("like: qwen\n", ["like: 'qwen' is none of plain"]),
        ("like: qwen3-vl\nmin_pixels: 90000000\n", ["min_pixels: 90,000,000 is above max_pixels"]),
    ],
)
def test_all_mistakes_are_told_at_once(write, text, mistakes):
    with pytest.raises(UsageError) as told:
        build_family(write(text))
    first, *lines = str(told.value).split("\n")
    noun = "mistake" if len(mistakes) == 1 else "mistakes"
    assert first.endswith(f"mine.yaml: {len(mistakes)} {noun} in the family")
    for line, mistake in zip(lines, mistakes, strict=True):
        assert line.startswith(f"  - {mistake}")


@pytest.mark.parametrize("text", ["- a\n", "1: 2\n", "a: [\n"])
def test_what_is_no_family_is_told_in_one_line(write, text):
    with pytest.raises(UsageError) as told:
        build_family(write(text))
    assert "\n" not in str(told.value)


def test_an_unknown_model_type_lists_near_names_and_the_yaml_way(tmp_path):
    config = {"model_type": "qwen3_vl_next", "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"\.yaml file .*near: qwen3-vl \(qwen3_vl"):
        read_family(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("qwen3_5", "qwen3.5"),
        ("qwen3_5_moe", "qwen3.5"),
        ("glm46v", "glm-4.6v"),
        ("gemma4", "gemma4"),
        ("gemma4_unified", "gemma4"),
        ("kimi_k25", "kimi-vl"),
        ("molmo2", "molmo2"),
        ("lfm2_vl", "lfm2-vl"),
    ],
)
def test_model_types_of_today_are_known(tmp_path, model_type, name):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert read_family(tmp_path).name == name


def test_a_model_that_is_only_read_is_told_so(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "florence2"}))
    with pytest.raises(UsageError, match="reads answers of family 'florence-2' and does not run"):
        read_family(tmp_path)
