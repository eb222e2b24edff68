"""Every kind of image file as people see it: turned, 8 bits, RGB, the first frame."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from boxrl.data.formats import READERS
from boxrl.data.images import check_pixels, check_sample, read_header, read_image, turn_box
from boxrl.data.lint import lint
from boxrl.data.samples import render_sample
from boxrl.errors import DataError
from boxrl.families import FAMILIES
from boxrl.types import Object, Sample

STORED_WH = (80, 40)
OBJECT = (50, 5, 70, 15)
"""White on black, in stored pixels."""

PILLOWS = [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"), ("AVIF", "avif")]


def photo(path, kind="JPEG", orientation=1):
    """A picture of one object, stored as it is, with a tag that turns it."""
    pixels = np.zeros((STORED_WH[1], STORED_WH[0], 3), np.uint8)
    x1, y1, x2, y2 = OBJECT
    pixels[y1:y2, x1:x2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, kind, exif=exif, quality=95)
    return path


def bright_box(image):
    """(x1, y1, x2, y2) of what is bright."""
    ys, xs = np.nonzero(np.asarray(image)[..., 0] > 128)
    return (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "suffix"), PILLOWS)
def test_exif_turns_size_pixels_and_boxes_alike(tmp_path, kind, suffix, orientation):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = photo(tmp_path / f"a.{suffix}", kind, orientation)
    header, image = read_header(path, "row"), read_image(path, "row")
    assert header.orientation == orientation
    assert header.stored_wh == STORED_WH
    assert header.size_wh == image.size == ((40, 80) if orientation >= 5 else STORED_WH)
    assert turn_box(OBJECT, STORED_WH, orientation) == bright_box(image)
    assert check_pixels(path, "row") == header
    if kind == "PNG":
        shown = ImageOps.exif_transpose(Image.open(path))
        assert np.array_equal(np.asarray(image), np.asarray(shown))


def write_annotations(root, orientation, name):
    """YOLO, COCO and VOC files of `photo`, all as labelling tools write them: as it is shown."""
    x1, y1, x2, y2 = turn_box(OBJECT, STORED_WH, orientation)
    width, height = (40, 80) if orientation >= 5 else STORED_WH
    if name == "yolo":
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
        shares += ((x2 - x1) / width, (y2 - y1) / height)
        (root / "labels").mkdir()
        (root / "labels/a.txt").write_text("0 " + " ".join(map(str, shares)))
        (root / "data.yaml").write_text("names: [dog]")
        return root / "labels"
    if name == "voc":
        (root / "Annotations").mkdir()
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, x2, y2), strict=True)
        corners = "".join(f"<{k}>{v}</{k}>" for k, v in corners)
        (root / "Annotations/a.xml").write_text(
            f"<annotation><filename>a.jpg</filename><size><width>{width}</width><height>{height}"
            "</height><depth>3</depth></size><object><name>dog</name><difficult>0</difficult>"
            f"<bndbox>{corners}</bndbox></object></annotation>"
        )
        return root
    image = {"id": 1, "file_name": "a.jpg"}
    if name == "coco":
        image |= {"width": width, "height": height}
    box = [x1, y1, x2 - x1, y2 - y1]
    document = {
        "images": [image], "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 200}],
    }  # fmt: skip
    (root / "coco.json").write_text(json.dumps(document))
    return root / "coco.json"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["yolo", "coco", "voc", "coco without sizes"])
def test_boxes_of_labelling_tools_land_on_the_object(tmp_path, name, orientation):
    photo(tmp_path / "images/a.jpg", orientation=orientation)
    annotations = write_annotations(tmp_path, orientation, name)
    reading = READERS[name.partition(" ")[0]](annotations, tmp_path / "images")
    (sample,) = reading.rows
    image = read_image(tmp_path / "images/a.jpg", "row")
    assert sample.size_wh == image.size
    assert sample.objects[0].bbox == pytest.approx(bright_box(image), abs=0.01)
    (tmp_path / "s.jsonl").write_text(render_sample(sample) + "\n")
    defects = lint(tmp_path / "s.jsonl", tmp_path / "images").defects
    expected = [] if orientation == 1 else [("image-rotated", "warning")]
    assert [(defect.rule, defect.severity) for defect in defects] == expected


@pytest.mark.parametrize("orientation", range(5, 9))
def test_boxes_of_stored_pixels_get_one_advice_and_fix_turns_them(tmp_path, orientation):
    photo(tmp_path / "a.jpg", orientation=orientation)
    sample = Sample(
        id="1", image="a.jpg", width=80, height=40, task="detection", labels=("dog",),
        objects=(Object(tuple(map(float, OBJECT)), "dog"),),
        meta={"others": [{"bbox": list(OBJECT), "label": "cat"}]},
    )  # fmt: skip
    (tmp_path / "s.jsonl").write_text(render_sample(sample) + "\n")
    outcome = lint(tmp_path / "s.jsonl", tmp_path, fixed=tmp_path / "f.jsonl")
    (defect,) = outcome.defects
    assert (defect.rule, defect.severity) == ("image-rotated", "error")
    assert "--fix" in defect.fix
    mended = json.loads((tmp_path / "f.jsonl").read_text())
    bright = bright_box(read_image(tmp_path / "a.jpg", "row"))
    assert (mended["width"], mended["height"]) == (40, 80)
    assert tuple(mended["objects"][0]["bbox"]) == bright
    assert tuple(mended["meta"]["others"][0]["bbox"]) == bright
    assert lint(tmp_path / "f.jsonl", tmp_path).errors == 0


RAMP = np.tile(np.linspace(3000, 60_000, 50).astype(np.uint16), (20, 1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_lose_their_lower_byte_as_in_opencv(tmp_path, suffix):
    Image.fromarray(RAMP).save(tmp_path / f"a.{suffix}")
    pixels = np.asarray(read_image(tmp_path / f"a.{suffix}", "row"))
    assert pixels.shape == (20, 50, 3)
    assert np.array_equal(pixels[..., 0], RAMP >> 8)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (np.linspace(0.2, 0.9, 50, dtype=np.float32), 51, 229),  # shares of 1
        (np.linspace(0, 200, 50, dtype=np.float32), 0, 200),  # 8-bit values
        (np.linspace(0, 65_535, 50, dtype=np.float32), 0, 255),  # 16-bit values
        (np.linspace(-40, 90_000, 50, dtype=np.float32), 0, 255),  # a range of its own
        (np.array([np.nan] * 10 + [0.5] * 40, dtype=np.float32), 0, 128),
        (np.linspace(0, 255, 50).astype(np.int32), 0, 255),
        (np.linspace(0, 65_535, 50).astype(np.int32), 0, 255),
    ],
)
def test_numbers_without_a_range_are_scaled_not_clipped(tmp_path, values, low, high):
    Image.fromarray(np.tile(values, (20, 1))).save(tmp_path / "a.tif")
    pixels = np.asarray(read_image(tmp_path / "a.tif", "row"))
    assert (int(pixels.min()), int(pixels.max())) == (low, high)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB"])
def test_other_modes_are_pillows_own_conversion(tmp_path, mode):
    noise = Image.effect_noise((40, 30), 90).convert("RGB")
    suffix = "tif" if mode in ("CMYK", "LAB") else "png"
    source = Image.frombytes("LAB", noise.size, noise.tobytes()) if mode == "LAB" else noise
    source.convert(mode).save(tmp_path / f"a.{suffix}")
    expected = np.asarray(Image.open(tmp_path / f"a.{suffix}").convert("RGB"))
    assert np.array_equal(np.asarray(read_image(tmp_path / f"a.{suffix}", "row")), expected)


@pytest.mark.parametrize(
    ("changed", "family", "said"),
    [
        ({"question": "<image>\nWhere is it?"}, "lfm2-vl", "question holds <image>, which family"),
        ({"labels": ("a <|image_pad|>",)}, "qwen2.5-vl", "question holds <.image_pad.>, which"),
        ({"width": 9, "height": 9000}, "qwen2.5-vl", "sample 'a': "),
        ({"question": "<image>\nWhere is it?"}, "qwen2.5-vl", None),
    ],
)
def test_samples_that_a_processor_cannot_take_are_told(changed, family, said):
    sample = replace(Sample("a", "a.png", 99, 99, "detection", ("cat",)), **changed)
    if said is None:
        check_sample(sample, FAMILIES[family])
    else:
        with pytest.raises(DataError, match=said):
            check_sample(sample, FAMILIES[family])


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_of_several_pictures_the_first_is_used_and_lint_says_so(tmp_path, suffix):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    assert read_image(tmp_path / f"a.{suffix}", "row").getpixel((5, 5)) == (255, 0, 0)
    sample = Sample(
        id="1", image=f"a.{suffix}", width=64, height=48, task="detection", labels=("dog",),
    )  # fmt: skip
    (tmp_path / "s.jsonl").write_text(render_sample(sample) + "\n")
    (defect,) = lint(tmp_path / "s.jsonl", tmp_path).defects
    assert (defect.rule, defect.severity) == ("image-animated", "warning")


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC image, which boxrl does not open (pillow-heif reads it)"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000 image, which boxrl does not open (Pillow"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"%!PS-Adobe-3.0", "not a readable image (JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF)"),
        (b"", "not a readable image"),
    ],
)
def test_what_is_not_opened_is_named_with_what_reads_it(tmp_path, start, said):
    path = tmp_path / "a.jpg"
    path.write_bytes(start + bytes(100) * bool(start))
    with pytest.raises(DataError) as told:
        read_image(path, "sample '7'")
    assert str(told.value).startswith("sample '7': ")
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_reduced_picture_is_turned_and_scaled_as_the_whole_one(tmp_path):
    photo(tmp_path / "a.jpg", orientation=6)
    small = read_image(tmp_path / "a.jpg", "row", side=40)
    assert small.size == (20, 40)
    whole = bright_box(read_image(tmp_path / "a.jpg", "row"))
    assert np.array(bright_box(small)) * 2 == pytest.approx(np.array(whole), abs=2)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, of EXIF that it passes over
def test_damaged_files_of_every_kind_end_in_one_error(tmp_path):
    rng = np.random.default_rng(0)
    for kind, suffix in PILLOWS:
        if kind == "AVIF" and not features.check("avif"):
            continue
        content = photo(tmp_path / f"a.{suffix}", kind, 6).read_bytes()
        for _ in range(60):
            broken = bytearray(content)
            for place in rng.integers(0, min(len(broken), 400), 4):
                broken[place] = rng.integers(256)
            path = tmp_path / f"b.{suffix}"
            path.write_bytes(broken[: rng.integers(1, len(broken) + 1)])
            for read in (read_header, check_pixels, read_image):
                try:
                    read(path, "row")
                except DataError as error:
                    assert "\n" not in str(error)


def test_an_image_is_opened_in_one_place():
    from tests.families.test_families import SOURCE

    places = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "Image.open(" in path.read_text()
    }
    assert places == {"data/images.py"}
