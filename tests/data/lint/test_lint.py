"""Every defect of a samples file is found, and mended where no guess is needed."""

import io
import json
import os
import struct
import zlib

import pytest
from PIL import Image

from boxrl.cli import main
from boxrl.data.lint import lint
from boxrl.data.samples import read_samples
from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES
from tests.support.archives import write_image


def row(**changes):
    good = {
        "id": "1", "image": "a.png", "width": 64, "height": 48, "task": "detection",
        "labels": ["cat", "dog"], "objects": [{"bbox": [1, 2, 30, 40], "label": "cat"}],
    }  # fmt: skip
    return {**good, **changes}


def boxes(*items):
    return [{"bbox": list(bbox), "label": label} for bbox, label in items]


def write(path, *rows):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def found(path, *args, **options):
    return [(d.line, d.severity, d.rule) for d in lint(path, *args, **options).defects]


def test_a_row_shows_all_of_its_defects(tmp_path):
    bad = row(image="../a.png", task="box", extra=1, objects=boxes(([1, 2, 300, 40], "cat")))
    told = [d.message for d in lint(write(tmp_path / "x.jsonl", bad)).defects]
    assert [message.partition(";")[0] for message in told] == [
        "image path '../a.png' leaves the images folder", "task 'box'", "unknown field 'extra'",
        "objects[0]: bbox [1, 2, 300, 40] leaves the image of 64 x 48",
    ]  # fmt: skip


def test_a_good_file_has_no_defects(tmp_path):
    assert found(write(tmp_path / "x.jsonl", row(), row(id="2", objects=[], image="b.png"))) == []


@pytest.mark.parametrize(
    ("bad", "rule", "message"),
    [
        ("{not json", "json", "not JSON"),
        ("[1]", "json", "expected a JSON object"),
        (row(width="64"), "field", "width"),
        (row(task="segmentation"), "field", "task"),
        (row(extra=1), "field", "unknown field"),
        (row(objects={}), "field", "objects"),
        (row(image="../a.png"), "field", "leaves the images folder"),
        (row(objects=boxes(([1, 2, 300, 40], "cat"))), "box-outside", "leaves the image"),
        (row(objects=boxes(([70, 2, 80, 40], "cat"))), "box-outside", "outside the image"),
        (row(objects=boxes(([5, 5, 5, 9], "cat"))), "box-empty", "no area"),
        (row(objects=boxes(([30, 5, 20, 9], "cat"))), "box-reversed", "like x, y, width, height"),
        (row(objects=boxes(([50, 5, 20, 9], "cat"))), "box-reversed", "x2 < x1"),
        (row(objects=boxes(([0.1, 0.2, 0.5, 0.9], "cat"))), "frame", "shares of the image"),
        (row(objects=boxes(([0.1, 0.2, 1.0001, 0.9], "cat"))), "frame", "shares of the image"),
        (row(labels=[], objects=[]), "nothing-asked", "no label is asked for"),
        (row(task="counting", question="?"), "no-answer", "a counting sample without an answer"),
        (row(task="counting", answer="three"), "no-answer", "'three' is no whole number in digits"),
        (row(meta={"unverified": ["Dog"]}), "label-unverified", "stands in meta.unverified"),
        (row(meta={"unverified": "dog"}), "field", "must be a list of labels"),
        (row(objects=boxes(([1, 2, 3], "cat"))), "box-malformed", "four finite numbers"),
        (row(objects=boxes(([1, 2, float("nan"), 9], "cat"))), "box-malformed", "four finite"),
        (row(objects=boxes(([1, 2, 30, 40], "bird"))), "label-not-asked", "'bird'"),
        (
            row(meta={"others": boxes(([1, 2, 3, 4], "dog"))}),
            "conflicting-negative",
            "'dog' is asked for",
        ),
    ],
)
def test_errors_of_one_row(tmp_path, bad, rule, message):
    outcome = lint(write(tmp_path / "x.jsonl", row(id="0", image="0.png"), bad))
    (defect,) = outcome.defects
    assert (defect.line, defect.severity, defect.rule) == (2, "error", rule)
    assert message in defect.message
    assert defect.fix


def test_all_defects_of_a_row_are_told_not_only_the_first(tmp_path):
    objects = boxes(([5, 5, 5, 9], "cat"), ([1, 2, 300, 40], "cat"), ([1, 1, 2, 2], "bird"))
    rules = [rule for _, _, rule in found(write(tmp_path / "x.jsonl", row(objects=objects)))]
    assert rules == ["box-empty", "box-outside", "label-not-asked"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(), row()], (2, "error", "duplicate-id")),
        (
            [row(), row(id="2", objects=boxes(([1, 2, 9, 9], "dog")))],
            (2, "error", "conflicting-negative"),
        ),
        (
            [row(), row(id="2", objects=boxes(([1, 2, 9, 9], "Dog")), labels=["Dog"])],
            (1, "error", "conflicting-negative"),
        ),
        (
            [row(), row(id="2", labels=["cat"], meta={"others": boxes(([1, 2, 9, 9], "dog"))})],
            (1, "error", "conflicting-negative"),
        ),
        (
            [row(), row(id="2", image="b.png", labels=["Cats"], objects=[])],
            (2, "warning", "near-identical-labels"),
        ),
        (
            [row(objects=boxes(*[([1, 2, 9, 9], "cat")] * 2))],
            (1, "warning", "box-duplicate"),
        ),
        ([row(labels=["cat", "CAT "])], (1, "warning", "label-duplicate")),
        ([row(labels=["cat", "dog; big"])], (1, "warning", "prompt-label-separator")),
        ([row(labels=["cat", " dog"])], (1, "warning", "prompt-label-spacing")),
        (
            [row(width=4000, height=3000, objects=boxes(([10, 20, 990, 800], "cat")))],
            (1, "warning", "frame"),
        ),
        (
            [
                row(
                    id=str(n),
                    image=f"{n}.png",
                    width=1920,
                    height=1080,
                    objects=boxes(([10, 20, 900 + n, 800], "cat")),
                )
                for n in range(20)
            ],
            (1, "warning", "frame"),
        ),
        (
            [
                row(
                    width=640,
                    height=480,
                    objects=boxes(*[([10, n, 90, 50 + n], "cat") for n in range(20)]),
                )
            ],
            (1, "warning", "frame"),
        ),
    ],
)
def test_defects_across_rows(tmp_path, rows, expected):
    assert expected in found(write(tmp_path / "x.jsonl", *rows))


def test_a_large_image_with_boxes_all_over_it_is_no_grid(tmp_path):
    rows = [
        row(width=4000, height=3000, objects=boxes(([10, 20, 990, 800], "cat"))),
        row(id="2", width=4000, height=3000, objects=boxes(([2000, 20, 3000, 800], "cat"))),
    ]
    assert found(write(tmp_path / "x.jsonl", *rows)) == []


@pytest.mark.parametrize(
    ("count", "box", "told"),
    [
        (100, [0, 2, 40, 30], True),
        (99, [0, 2, 40, 30], False),
        (100, [0, 2, 50, 30], False),  # near to the right border
        (100, [20, 12, 40, 30], False),  # in the middle, as portraits are
    ],
)
def test_boxes_of_smaller_copies_of_the_images_are_told(tmp_path, count, box, told):
    rows = [
        row(id=str(n), image=f"{n}.png", labels=["cat"], objects=boxes((box, "cat")))
        for n in range(count)
    ]
    assert found(write(tmp_path / "x.jsonl", *rows)) == [(1, "warning", "frame")] * told


def test_an_image_in_both_train_and_validation_is_an_error(tmp_path):
    train = write(tmp_path / "train.jsonl", row(), row(id="2", image="b.png"))
    validation = write(tmp_path / "val.jsonl", row(id="9", image="b.png"))
    assert found(train, validation=validation) == [(2, "error", "image-in-validation")]


def test_the_prompt_is_looked_at_too(tmp_path):
    from dataclasses import replace

    from boxrl.prompts import PROMPTS

    bad = replace(PROMPTS["standard"], detect="Detect {labels}.{output}")
    assert found(write(tmp_path / "x.jsonl", row()), prompt=bad) == [
        (1, "warning", "prompt-missing-space")
    ]


def test_an_empty_file_is_an_error_and_a_missing_one_is_told(tmp_path):
    assert found(write(tmp_path / "x.jsonl")) == [(1, "error", "no-samples")]
    with pytest.raises(DataError, match="cannot be read"):
        lint(tmp_path / "no.jsonl")


# --- images ------------------------------------------------------------------------------------


def huge_png():
    """A header of 20,000 x 20,000 px and next to no pixels."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def jpeg(size_wh=(64, 48), orientation=None, share=1.0):
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.effect_noise(size_wh, 90).convert("RGB").save(buffer, "JPEG", exif=exif)
    content = buffer.getvalue()
    return content[: int(len(content) * share)]


@pytest.mark.parametrize(
    ("content", "rule", "message"),
    [
        (None, "image-unreadable", "no image"),
        (b"", "image-unreadable", "not a readable image"),
        (b"<html>", "image-unreadable", "not a readable image"),
        (huge_png(), "image-unreadable", "more than 134,217,728 pixels"),
        (jpeg(share=0.6), "image-unreadable", "damaged"),
        (jpeg((48, 64)), "image-size", "sides are exchanged"),
        (jpeg((640, 480)), "image-size", "640 x 480 px, the sample says 64 x 48"),
        (jpeg(orientation=6), "image-rotated", "is shown as 48 x 64 px (EXIF orientation 6)"),
    ],
)
def test_defects_of_images(tmp_path, content, rule, message):
    images = tmp_path / "images"
    write_image(images / "b.png")
    if content is not None:
        (images / "a.png").write_bytes(content)
    outcome = lint(write(tmp_path / "x.jsonl", row(), row(id="2", image="b.png")), images)
    (defect,) = outcome.defects
    assert (defect.line, defect.severity, defect.rule) == (1, "error", rule)
    assert message in defect.message


def test_a_file_of_another_kind_is_told_its_reader_and_not_repaired_into_nothing(tmp_path, capsys):
    path, mended = tmp_path / "instances.json", tmp_path / "mended.jsonl"
    path.write_text('{"images": [{"file_name": "a.png"}], "annotations": []}')
    way = f"it looks like a COCO file: boxrl data convert coco --annotations {path} ..."
    assert main(["data", "lint", str(path)]) == 1
    said = capsys.readouterr().out
    assert way in said.splitlines()[-1]
    assert "--fix" not in said
    with pytest.raises(DataError, match="no row is a sample; it looks like a COCO file"):
        lint(path, fixed=mended)
    assert not mended.exists()


def test_a_folder_that_holds_no_image_of_the_file_is_refused_and_repairs_nothing(tmp_path):
    write_image(tmp_path / "images" / "a.png")
    path = write(tmp_path / "x.jsonl", row(), row(id="2", image="b.png"))
    mended = tmp_path / "mended.jsonl"
    with pytest.raises(
        DataError, match=r"none of its images lies in \S+, such as 'a.png'; --images"
    ):
        lint(path, tmp_path, fixed=mended)
    assert not mended.exists()
    assert lint(path, tmp_path / "images").errors == 1


@pytest.mark.parametrize(
    ("others", "expected", "kept"),
    [
        (
            [jpeg((64, 48), orientation=6)],
            ("error", "those of the stored pixels"),
            [44, 28, 54, 38],
        ),
        ([jpeg((48, 64), orientation=6)], ("warning", "as it is shown"), [10, 10, 20, 20]),
        ([], ("warning", "as it is shown"), [10, 10, 20, 20]),
        (
            [jpeg((64, 48), orientation=6), jpeg((48, 64), orientation=8)],
            ("error", "partly of the stored pixels, partly as shown"),
            None,
        ),
    ],
)
def test_of_images_whose_size_does_not_tell_the_frame_other_rows_of_the_file_do(
    tmp_path, others, expected, kept
):
    box = [{"bbox": [10, 10, 20, 20], "label": "dog"}]
    rows = [row(objects=box)]
    (tmp_path / "a.png").write_bytes(jpeg(orientation=3))
    for number, content in enumerate(others):
        (tmp_path / f"{number}.png").write_bytes(content)
        rows.append(row(id=f"b{number}", image=f"{number}.png", objects=box))
    outcome = lint(write(tmp_path / "x.jsonl", *rows), tmp_path, fixed=tmp_path / "y.jsonl")
    defect = outcome.defects[0]
    assert (defect.line, defect.rule, defect.severity) == (1, "image-rotated", expected[0])
    assert expected[1] in defect.message
    boxes = {sample.id: sample.objects[0].bbox for sample in read_samples(tmp_path / "y.jsonl")}
    assert boxes.get(rows[0]["id"]) == (None if kept is None else tuple(kept))


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (FAMILIES["qwen2.5-vl"], [(1, "error", "image-refused")]),
        (FAMILIES["internvl"], []),
        (FAMILIES["plain"], [(1, "warning", "image-refused")]),
    ],
)
def test_shapes_that_a_familys_processor_refuses(tmp_path, family, expected):
    thin = row(width=1093, height=5, objects=[])
    path = write(tmp_path / "x.jsonl", thin, row(id="2", image="b.png"))
    assert found(path, family=family) == expected


def test_good_images_have_no_defects(tmp_path):
    (tmp_path / "a.png").write_bytes(jpeg(orientation=1))
    write_image(tmp_path / "b.png")
    path = write(tmp_path / "x.jsonl", row(), row(id="2", image="b.png"))
    assert found(path, tmp_path) == []


def test_a_pipe_is_no_image_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (defect,) = lint(write(tmp_path / "x.jsonl", row()), tmp_path).defects
    assert "no image" in defect.message


def test_a_link_out_of_the_images_folder_is_an_error(tmp_path):
    outside = write_image(tmp_path / "outside.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").symlink_to(outside)
    outcome = lint(write(tmp_path / "x.jsonl", row()), tmp_path / "images")
    assert "link out of the images folder" in outcome.defects[0].message


# --- mending -----------------------------------------------------------------------------------


def test_mending_keeps_what_needs_no_guess_and_lists_every_change(tmp_path):
    objects = boxes(
        ([5, 5, 5, 9], "cat"),
        ([1, 2, 300, 40], "cat"),
        ([1, 2, 64, 40], "CAT"),
        ([1, 1, 2, 20], "bird"),
    )
    source = write(
        tmp_path / "x.jsonl",
        row(objects=objects),
        row(),  # the same id again
        row(id="3", objects=boxes(([30, 5, 20, 9], "cat"))),  # reversed, or xywh: a guess
        "{",
    )
    before = source.read_bytes()
    lint(source, fixed=tmp_path / "new.jsonl")
    assert source.read_bytes() == before
    first, second = read_samples(tmp_path / "new.jsonl")
    assert (first.labels, first.objects) == (("dog",), ())  # a cat more than it could show
    assert first.meta["unverified"] == ["cat"]
    assert first.meta["others"] == boxes(
        ([1, 2, 64, 40], "cat"), ([1, 2, 64, 40], "CAT"), ([1, 1, 2, 20], "bird")
    )
    assert second.id == "1#2"
    changes = [json.loads(x) for x in (tmp_path / "new.changes.jsonl").read_text().splitlines()]
    assert [change["line"] for change in changes] == [1, 1, 1, 1, 2, 3, 4]
    assert changes[5]["change"].startswith("left out: objects[0]")
    assert lint(tmp_path / "new.jsonl").errors == 0


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"labels": ["dog", "bird"]}, 1),  # cat is another label of the image
        ({"labels": ["Cats", "dog"]}, 0),  # and may be what is asked for
        ({"labels": ["the left cat"], "task": "grounding", "question": "the left cat"}, 0),
        ({"labels": ["dog", "bird"], "task": "region", "answer": "dog"}, 0),
    ],
)
def test_mending_makes_no_negative_of_a_box_under_another_label(tmp_path, more, kept):
    source = write(tmp_path / "x.jsonl", row(objects=boxes(([1, 2, 30, 40], "cat")), **more))
    rules = [defect.rule for defect in lint(source, fixed=tmp_path / "new.jsonl").defects]
    assert rules == ["label-not-asked"]
    assert len((tmp_path / "new.jsonl").read_text().splitlines()) == kept


def test_mending_leaves_out_what_has_nothing_left_to_ask_for(tmp_path):
    empty = boxes(([5, 5, 5, 9], "cat"))
    rows = [
        row(labels=["cat"], objects=empty),
        row(id="2", labels=["a cat"], task="grounding", question="a cat",
            objects=boxes(([5, 5, 5, 9], "a cat"))),
        row(id="3", objects=[{"bbox": [5, 5, 5, 9]}]),  # of whatever label
        row(id="4", image="b.png"),
    ]  # fmt: skip
    lint(write(tmp_path / "x.jsonl", *rows), fixed=tmp_path / "new.jsonl")
    assert [sample.id for sample in read_samples(tmp_path / "new.jsonl")] == ["4"]


def test_labels_taken_out_of_a_question_take_what_is_aligned_with_them(tmp_path):
    meta = {"category_ids": [1, 2], "annotation_ids": [7, 8], "areas": [9.0, 4.0]}
    crowd = {"bbox": [3, 3, 9, 9], "label": "dog", "iscrowd": True}
    source = row(objects=[*boxes(([1, 2, 30, 40], "cat")), crowd], meta=meta)
    path = write(tmp_path / "x.jsonl", source)
    assert found(path) == [(1, "error", "label-unverified")]
    lint(path, fixed=tmp_path / "new.jsonl")
    (sample,) = read_samples(tmp_path / "new.jsonl")
    assert sample.labels == ("cat",)
    assert sample.meta == {
        "category_ids": [1], "annotation_ids": [7], "areas": [9.0], "others": [crowd],
        "unverified": ["dog"],
    }  # fmt: skip
    assert found(tmp_path / "new.jsonl") == []


def test_a_label_asked_for_often_and_never_present_is_worth_a_word(tmp_path):
    rows = [row(id=str(n), image=f"{n}.png") for n in range(4)]
    path = write(tmp_path / "x.jsonl", *rows)
    (defect,) = lint(path).defects
    assert (defect.severity, defect.rule) == ("warning", "label-never-present")
    assert "'dog' (4 times)" in defect.message
    assert found(write(path, *rows[:2])) == []  # too few to tell


def test_mending_never_writes_over_a_file(tmp_path):
    source = write(tmp_path / "x.jsonl", row())
    with pytest.raises(UsageError, match="writes a new file"):
        lint(source, fixed=source)


def test_exit_status_and_json(tmp_path, capsys):
    good, bad = write(tmp_path / "a.jsonl", row()), write(tmp_path / "b.jsonl", row(), row())
    assert main(["data", "lint", str(good)]) == 0
    capsys.readouterr()
    assert main(["data", "lint", str(bad), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["rows"], printed["errors"], printed["warnings"]) == (2, 1, 0)
    assert printed["defects"][0]["where"] == f"{bad}:2"


def test_one_error_is_no_plural_and_the_mended_files_are_named(tmp_path, capsys):
    bad = write(tmp_path / "x.jsonl", row(), row(id="2", extra=1))
    fixed = tmp_path / "fixed.jsonl"
    assert main(["data", "lint", str(bad), "--fix", str(fixed)]) == 1
    *_, counts, files = capsys.readouterr().out.splitlines()
    assert counts.startswith(f"{bad}: 2 rows, 1 error, ")
    assert str(fixed) in files and str(tmp_path / "fixed.changes.jsonl") in files
    assert len(read_samples(fixed)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (row(objects=boxes(([1, 2, 300, 40], "cat"))), "original pixels. Run boxrl data lint {0}"),
        (row(extra=1), "fields: answer, height, id, image, labels, meta, objects, question, task,"),
        ({"images": [], "annotations": []}, "boxrl data convert coco --annotations {0}"),
        ('{"id": "1", "image": "a.p', "not JSON (Unterminated string"),
    ],
)
def test_reading_says_what_to_do_next(tmp_path, text, message):
    path = write(tmp_path / "x.jsonl", text)
    with pytest.raises(DataError) as error:
        read_samples(path)
    assert message.format(path) in str(error.value)
