"""Sizes as models see them: the rules against transformers' own processors, and their limits."""

import json
import re
from pathlib import Path

import pytest

from boxrl.engines.torchvision_repair import repair_torchvision
from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES, build_family, read_family, smart_resize
from boxrl.families.cutting import CUTS
from boxrl.families.folder import write_limits
from boxrl.families.resizing import count_tiles, fill_resize, glm_resize
from tests.families.test_families import SOURCE


@pytest.fixture(autouse=True, scope="module")
def transformers_importable():
    repair_torchvision()


SIZES = [
    (640, 480), (427, 640), (1920, 1080), (6000, 4000), (97, 61), (300, 200), (28, 28), (14, 14),
    (1, 1), (5, 900), (27, 332), (1093, 6), (42, 70), (98, 98), (3000, 3000), (4000, 27),
]  # fmt: skip


@pytest.mark.parametrize("limits", [(3136, 12_845_056), (65_536, 401_408), (3136, 3136)])
@pytest.mark.parametrize("factor", [28, 32])
def test_smart_resize_is_transformers_own(factor, limits):
    from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as theirs

    for width, height in SIZES:
        expected = theirs.smart_resize(height, width, factor, *limits)
        assert smart_resize((width, height), factor, *limits)[::-1] == expected


@pytest.mark.parametrize("limits", [(6272, 5_880_000), (65_536, 401_408), (3136, 3136)])
def test_glm_resize_is_transformers_own_over_two_frames(limits):
    from transformers.models.glm4v import image_processing_pil_glm4v as theirs

    low, high = (2 * limit for limit in limits)
    for width, height in SIZES:
        expected = theirs.smart_resize(2, height, width, min_pixels=low, max_pixels=high)
        assert glm_resize((width, height), 28, *limits)[::-1] == expected


@pytest.mark.parametrize("tokens", [70, 280, 1120])
def test_fill_resize_is_transformers_own(tokens):
    from transformers.models.gemma4.image_processing_pil_gemma4 import (
        get_aspect_ratio_preserving_size,
    )

    for width, height in SIZES:
        expected = get_aspect_ratio_preserving_size(height, width, 16, 9 * tokens, 3)
        assert fill_resize((width, height), 48, tokens)[::-1] == expected


def test_tiles_are_transformers_own():
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    processor = GotOcr2ImageProcessorPil(
        size={"height": 448, "width": 448}, crop_to_patches=True, max_patches=12
    )
    for width, height in [*SIZES, (896, 448), (1200, 400), (448, 448), (500, 500), (900, 900)]:
        expected = processor.get_number_of_image_patches(height, width)
        assert count_tiles((width, height), 448) == expected


@pytest.mark.parametrize(
    ("name", "size", "tokens"),
    [
        ("qwen2.5-vl", (640, 480), 23 * 17),
        ("qwen3-vl", (640, 480), 20 * 15),
        ("glm-4v", (640, 480), 23 * 17),
        ("internvl", (640, 480), 256 * 13),
        ("internvl", (448, 448), 256),
        ("paligemma", (640, 480), 256),
        ("gemma", (4000, 3000), 256),
        ("lfm2-vl", (640, 480), 18 * 13),
        ("lfm2-vl", (1920, 1080), 8 * 256 + 21 * 12),
        ("molmo2", (640, 480), 14 * 14 + 23 * 23),
        ("plain", (640, 480), None),
        ("kimi-vl", (640, 480), None),  # the makers' own code, which is not run
        ("deepseek-vl2", (640, 480), None),
        ("minicpm-v-4.5", (640, 480), None),
        ("locateanything", (640, 480), None),
    ],
)
def test_tokens_of_an_image(name, size, tokens):
    assert FAMILIES[name].count_image_tokens(size) == tokens


@pytest.mark.parametrize("name", [name for name, f in FAMILIES.items() if f.has_limits])
def test_shapes_that_the_processor_refuses_are_refused(name):
    with pytest.raises(DataError, match="200 times"):
        FAMILIES[name].input_size_wh((28 * 201 + 1, 28))


def test_limits_of_ones_own_move_the_size():
    family = build_family("qwen2.5-vl", max_pixels=401_408)
    assert family.input_size_wh((1920, 1080)) == (840, 448)
    assert build_family("qwen2.5-vl", 262_144).input_size_wh((384, 303)) == (588, 476)
    assert family.limits() == {"min_pixels": 3136, "max_pixels": 401_408, "factor": 28}


@pytest.mark.parametrize(
    ("name", "limits", "message"),
    [
        ("qwen2.5-vl", (500_000, 400_000), "min_pixels 500,000 is above max_pixels 400,000"),
        ("qwen3-vl", (None, 50_000), "min_pixels 65,536 is above max_pixels 50,000; .* name both"),
        ("qwen2.5-vl", (13_000_000, None), "13,000,000 is above max_pixels 12,845,056; .* both"),
        ("qwen2.5-vl", (100, 700), "max_pixels 700 is below one patch .* 28 x 28 = 784"),
        ("qwen2.5-vl", (0, None), "min_pixels: expected an integer above 0, got 0"),
        ("qwen2.5-vl", (None, "401408"), "max_pixels: expected an integer above 0, got '401408'"),
        ("qwen2.5-vl", (None, True), "max_pixels: expected an integer"),
        ("internvl", (None, 401_408), "'internvl' has no pixel limits: its images are cut into"),
        ("gemma", (3136, None), "has no pixel limits: its images are brought to one square"),
        ("plain", (3136, None), "has no pixel limits: .* nobody knows"),
        ("lfm2-vl", (None, 401_408), "has no pixel limits: its images are cut or padded by rules"),
        ("deepseek-vl2", (None, 401_408), "has no pixel limits: .* nobody knows"),
    ],
)
def test_limits_that_cannot_be_are_told_in_one_line(name, limits, message):
    with pytest.raises(UsageError, match=message) as told:
        build_family(name, *limits)
    assert "\n" not in str(told.value)


def write_folder(folder: Path, model_type: str, **files: dict) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_folders_limits_are_its_processors_own(tmp_path):
    image = {"size": {"shortest_edge": 12_544, "longest_edge": 802_816}, "patch_size": 14}
    folder = write_folder(tmp_path, "glm4v", preprocessor_config=image | {"merge_size": 2})
    assert read_family(folder).limits() == {
        "min_pixels": 6272, "max_pixels": 401_408, "factor": 28,
    }  # fmt: skip
    assert read_family(folder, max_pixels=200_704).max_pixels == 200_704


def test_a_folders_filled_tokens_are_its_processors_own(tmp_path):
    folder = write_folder(tmp_path, "gemma4", preprocessor_config={"max_soft_tokens": 70})
    assert read_family(folder).input_size_wh((640, 480)) == (432, 336)


def test_a_folders_square_and_tokens_are_its_processors_own(tmp_path):
    image = {"size": {"height": 448, "width": 448}, "image_seq_length": 1024}
    folder = write_folder(tmp_path, "paligemma", preprocessor_config=image)
    assert read_family(folder).count_image_tokens((640, 480)) == 1024
    with pytest.raises(UsageError, match="no pixel limits"):
        read_family(folder, max_pixels=401_408)


def shown_tokens(processor, width: int, height: int) -> int:
    """Tokens that transformers' processor makes of an image."""
    from PIL import Image

    made = processor(Image.new("RGB", (width, height)), return_tensors="pt")
    if "image_grid_thw" in made:
        return int(made["image_grid_thw"].prod()) // 4
    if "spatial_shapes" in made:
        return int(made["spatial_shapes"].prod(-1).sum()) // 4
    if "target_sizes" in made:
        return int(made["target_sizes"].prod(-1).sum()) // 16
    low_rows, low_columns, rows, columns = made["image_grids"][0].tolist()
    return low_rows * low_columns + rows * columns


CUT_SIZES = [
    (640, 480), (427, 640), (1920, 1080), (97, 61), (300, 200), (28, 28), (14, 14), (1, 1),
    (5, 900), (1093, 6), (112, 112), (512, 512), (725, 725), (1600, 400), (400, 1600), (2000, 3000),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ("lfm2", {}),
        ("lfm2", {"max_image_tokens": 128, "max_tiles": 6, "use_thumbnail": False}),
        ("lfm2", {"do_image_splitting": False}),
        ("kimi", {}),
        ("kimi", {"max_patches": 1024, "size": {"max_height": 40, "max_width": 40}}),
        ("minicpm", {}),
        ("minicpm", {"max_slice_nums": 4}),
        ("minicpm", {"slice_mode": False}),
        ("molmo", {}),
        ("molmo", {"max_crops": 24}),
    ],
)
def test_tokens_of_images_that_are_cut_or_padded_are_transformers_own(rule, settings, tmp_path):
    import transformers

    kind = CUTS[rule]().processor
    processor = getattr(transformers, kind)(**settings)
    image = settings | {"image_processor_type": kind}
    family = read_family(write_folder(tmp_path, "kimi_vl", preprocessor_config=image))
    assert (family.name, family.resizing) == ("kimi-vl", rule)
    for width, height in CUT_SIZES:
        counted = family.count_image_tokens((width, height))
        assert counted == shown_tokens(processor, width, height), (width, height)


SMALL = {"shortest_edge": 12_544, "longest_edge": 401_408}


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"size": SMALL},
        {"max_pixels": 200_704},  # the other limit is the class's, not the family's
        {"min_pixels": 501_760},
        {"min_pixels": None, "max_pixels": None, "size": SMALL},
        {"min_pixels": 3136, "max_pixels": 200_704},
        {"min_pixels": 3136, "max_pixels": 200_704, "size": SMALL},  # they contradict each other
        {"min_pixels": 3136, "max_pixels": 200_704, "size": {"min_pixels": 1, "max_pixels": 2}},
    ],
)
@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        ("qwen2_5_vl", "Qwen2VLImageProcessor"),
        ("glm4v", "Glm4vImageProcessor"),
        ("glm46v", "Glm46VImageProcessor"),
    ],
)
def test_limits_wherever_they_stand_are_transformers_own(model_type, kind, stated, tmp_path):
    import transformers

    image = stated | {"image_processor_type": kind + "Fast"}
    folder = write_folder(tmp_path, model_type, preprocessor_config=image)
    processor = getattr(transformers, kind)(**json.loads(json.dumps(stated)))
    expected = {edge: getattr(processor.size, edge) for edge in SMALL}
    if None in expected.values():  # over which transformers stumbles at the first image
        with pytest.raises(UsageError, match="needs shortest_edge and longest_edge"):
            read_family(folder)
        return
    assert read_family(folder).processor_size == expected
    write_limits(folder, expected)
    assert json.loads((folder / "preprocessor_config.json").read_text()) == image
    write_limits(folder, {"shortest_edge": 6272, "longest_edge": 100_352})
    written = json.loads((folder / "preprocessor_config.json").read_text())
    assert dict(getattr(transformers, kind)(**written).size) == written["size"]
    assert read_family(folder).processor_size == {"shortest_edge": 6272, "longest_edge": 100_352}


@pytest.mark.parametrize(
    "stated", [{"patch_size": 16}, {"merge_size": 4}, {"patch_size": 32, "merge_size": 1}]
)
def test_a_side_that_the_folder_leaves_out_is_the_classs_own(stated, tmp_path):
    import transformers

    image = stated | {"image_processor_type": "Qwen2VLImageProcessor"}
    processor = transformers.Qwen2VLImageProcessor(**stated)
    family = read_family(write_folder(tmp_path, "qwen2_5_vl", preprocessor_config=image))
    assert family.factor == processor.patch_size * processor.merge_size


def test_images_that_are_not_resized_have_no_frame_of_resized_pixels(tmp_path):
    folder = write_folder(tmp_path, "qwen2_5_vl", preprocessor_config={"do_resize": False})
    with pytest.raises(UsageError, match=r"preprocessor_config.json: do_resize is false"):
        read_family(folder)


def test_a_processor_of_the_makers_own_is_not_computed(tmp_path):
    image = {"image_processor_type": "KimiVLImageProcessor", "in_token_limit": 4096}
    assert read_family(write_folder(tmp_path, "kimi_vl", preprocessor_config=image)).resizing == (
        "unknown"
    )
    assert read_family(write_folder(tmp_path, "lfm2_vl", preprocessor_config=image)).resizing == (
        "unknown"
    )
    assert read_family(write_folder(tmp_path, "lfm2_vl", preprocessor_config={})).resizing == "lfm2"


@pytest.mark.parametrize("value", [0, "512", True, 2**40, None, [1]])
def test_a_setting_of_a_cut_that_cannot_be_is_one_line(tmp_path, value):
    image = {"image_processor_type": "Lfm2VlImageProcessorFast", "tile_size": value}
    folder = write_folder(tmp_path, "lfm2_vl", preprocessor_config=image)
    with pytest.raises(UsageError, match=r"preprocessor_config.json: .* is not like 512"):
        read_family(folder)


RULES = re.compile(
    r"\b(smart_resize|glm_resize|fetch_resize|fill_resize|scale_to_area|count_tiles|RESIZERS)\b"
)
ROUNDED = re.compile(r"\b(round|floor|ceil)\([^\n]*\bfactor\b")


def test_an_input_size_is_computed_in_one_place():
    """By families/resizing.py; everybody else asks a family, or an image's way to a trainer."""
    texts = {path.relative_to(SOURCE).as_posix(): path.read_text() for path in SOURCE.rglob("*.py")}
    assert {place for place, text in texts.items() if ROUNDED.search(text)} == {
        "families/resizing.py"
    }
    asking = {place for place, text in texts.items() if RULES.search(text)}
    assert {place for place in asking if not place.startswith("families/")} == set()


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "glm-4v"])
def test_odd_shapes_are_shown_and_refused_as_by_the_processor_itself(name):
    from PIL import Image
    from transformers.models.glm4v.image_processing_glm4v import Glm4vImageProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    family = build_family(name)
    low, high = (family.limit_frames * n for n in (family.min_pixels, family.max_pixels))
    kind = Glm4vImageProcessor if name == "glm-4v" else Qwen2VLImageProcessor
    size = {"shortest_edge": low, "longest_edge": high}
    processor = kind(size=size, patch_size=family.factor // 2)
    odd = [(1, 1), (2, 3), (3, 3), (1, 150), (3, 600), (3, 603), (401, 2), (5600, 28), (5628, 28)]
    for width, height in odd:
        image = Image.new("RGB", (width, height))
        try:
            grid = processor(image, return_tensors="pt")["image_grid_thw"][0].tolist()
        except ValueError:
            assert not family.takes((width, height))
        else:
            shown = tuple(n * family.factor // 2 for n in grid[:0:-1])
            assert shown == family.input_size_wh((width, height))
