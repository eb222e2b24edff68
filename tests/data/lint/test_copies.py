"""Images of the training file that validation holds too, under whatever name."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

from boxrl.cli import main
from boxrl.data.lint import copies, lint
from tests.data.lint.test_lint import row, write


def picture(seed):
    """Something of a photo: soft shapes with noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    large = np.asarray(small.resize((320, 240), Image.Resampling.BICUBIC), dtype=np.float64)
    noisy = (large + rng.normal(0, 6, large.shape)).clip(0, 255)
    return Image.fromarray(noisy.astype(np.uint8))


def asked(image, size=(320, 240)):
    return row(id=image, image=image, width=size[0], height=size[1])


def defects(tmp_path, training, validation, **options):
    first = write(tmp_path / "train.jsonl", *training)
    second = write(tmp_path / "val.jsonl", *validation)
    found = lint(first, tmp_path, validation=second, **options).defects
    return [(d.severity, d.rule, d.message) for d in found]


def test_a_copy_of_equal_content_is_found_under_another_name(tmp_path):
    picture(0).save(tmp_path / "a.png")
    picture(1).save(tmp_path / "other.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    ((severity, rule, message),) = defects(
        tmp_path, [asked("b.png"), asked("other.png")], [asked("a.png")]
    )
    assert (severity, rule) == ("error", "image-in-validation")
    assert "image 'b.png' is a copy of 'a.png' in" in message


def test_a_copy_by_roboflow_is_found_by_its_name_without_images(tmp_path):
    first = write(tmp_path / "t.jsonl", asked("train/IMG_0_jpg.rf.00aa.jpg"), asked("x.jpg"))
    second = write(tmp_path / "v.jsonl", asked("valid/IMG_0_jpg.rf.01aa.jpg"))
    (defect,) = lint(first, validation=second).defects
    assert "is, by its name, a copy of 'valid/IMG_0_jpg.rf.01aa.jpg'" in defect.message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image.resize((200, 150)), "looks like 'a.png' in"),
        (ImageOps.mirror, "looks like 'a.png', mirrored, in"),
        (lambda image: image.convert("L"), "looks like 'a.png' in"),
    ],
)
def test_a_near_copy_is_worth_a_look(tmp_path, change, words):
    pytest.importorskip("imagehash")
    picture(0).save(tmp_path / "a.png")
    changed = change(picture(0))
    changed.convert("RGB").save(tmp_path / "b.jpg", quality=60)
    picture(1).save(tmp_path / "other.png")
    training = [asked("b.jpg", changed.size), asked("other.png")]
    ((severity, rule, message),) = defects(tmp_path, training, [asked("a.png")])
    assert (severity, rule) == ("warning", "image-like-validation")
    assert words in message


def test_pictures_with_nothing_in_them_are_like_no_other(tmp_path):
    pytest.importorskip("imagehash")
    for name, colour in (("a.png", (9, 90, 60)), ("b.png", (200, 20, 20))):
        Image.new("RGB", (320, 240), colour).save(tmp_path / name)
    assert defects(tmp_path, [asked("b.png")], [asked("a.png")]) == []


def test_without_the_library_copies_are_found_and_a_note_says_what_is_not(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(copies, "can_hash", lambda: False)
    monkeypatch.setattr("boxrl.data.lint.can_hash", lambda: False)
    (tmp_path / "v").mkdir()
    picture(0).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "v/b.png")
    first, second = (
        write(tmp_path / "t.jsonl", asked("a.png")),
        write(tmp_path / "v.jsonl", asked("b.png")),
    )
    folders = ("--images", str(tmp_path), "--validation-images", str(tmp_path / "v"))
    call = ["data", "lint", str(first), "--validation", str(second), *folders]
    assert main(call) == 1
    printed = capsys.readouterr().out
    assert "is a copy of 'b.png' in" in printed
    assert "note: near copies of validation images are not looked for" in printed
    assert main([*call, "--json"]) == 1
    assert "boxrl[copies]" in json.loads(capsys.readouterr().out)["notes"][0]
