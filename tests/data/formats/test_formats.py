"""OVDEval, D3, RefCOCO, RefGTA, ReasonSeg, CLEVR: files as their archives have them."""

import json
import pickle

import numpy as np
import pytest

from boxrl.data.formats import d3
from boxrl.data.formats.clevr import read_clevr
from boxrl.data.formats.d3 import read_d3
from boxrl.data.formats.lisa import read_lisa
from boxrl.data.formats.ovdeval import read_ovdeval
from boxrl.data.formats.reading import Rejected
from boxrl.data.formats.refcoco import read_refcoco
from boxrl.data.formats.refgta import read_refgta
from boxrl.errors import DataError, UsageError
from tests.support.archives import annotation, boxes_of, rows_of, write_image, write_json

# --- OVDEval -----------------------------------------------------------------------------------


def ovdeval_file(folder, name="color"):
    """As published: category and annotation ids from 0, whole-pixel boxes, text and neg_text."""
    names = ["computer without screen on", "computer with screen on", "red cup"]
    images = [
        {
            "id": 0, "file_name": "x.jpg", "width": 340, "height": 254,
            "text": names[:1], "neg_text": names[1:2],
        },
        {
            "id": 1, "file_name": "y.jpg", "width": 100, "height": 100,
            "text": [], "neg_text": names[2:],
        },
    ]  # fmt: skip
    return write_json(
        folder / f"{name}.json",
        {
            "categories": [
                {"supercategory": "object", "id": number, "name": label}
                for number, label in enumerate(names)
            ],
            "images": images,
            "annotations": [
                {
                    "id": 0, "image_id": 0, "category_id": 0, "bbox": [111, 117, 99, 75],
                    "area": 7425, "iscrowd": 0,
                }
            ],
        },
    )  # fmt: skip


def test_ovdeval_all_asks_for_text_and_hard_negatives(tmp_path):
    first, second = rows_of(read_ovdeval(ovdeval_file(tmp_path), tmp_path))
    assert first.id == "color/0"
    assert first.labels == ("computer without screen on", "computer with screen on")
    assert boxes_of(first) == [("computer without screen on", (111, 117, 210, 192))]
    assert first.meta["annotation_ids"] == [1]  # 0 in the file
    assert first.meta["category_ids"] == [0, 1]
    assert first.meta["subset"] == "color"
    assert (second.labels, second.objects) == (("red cup",), ())


def test_ovdeval_positive_asks_for_text_alone(tmp_path):
    (sample,) = rows_of(read_ovdeval(ovdeval_file(tmp_path), tmp_path, mode="positive"))
    assert sample.labels == ("computer without screen on",)


@pytest.mark.parametrize("aspect", ["celebrity", "logo", "landmark"])
def test_ovdeval_proper_nouns_ask_for_every_name_of_the_file(tmp_path, aspect):
    samples = rows_of(read_ovdeval(ovdeval_file(tmp_path, aspect), tmp_path))
    assert [len(sample.labels) for sample in samples] == [3, 3]


D3 = ("sentences", "annotations", "images", "groups")

# --- D3 ----------------------------------------------------------------------------------------


def d3_pickles(folder):
    """As published: dicts by id; area and bbox of annotations in one-element containers."""
    sentences = {
        1: {"id": 1, "raw_sent": "a dog", "is_negative": False, "anno_id": [0], "group_id": [5]},
        2: {"id": 2, "raw_sent": "a dog without a hat", "is_negative": True, "group_id": [5]},
        3: {"id": 3, "raw_sent": "a kite", "is_negative": False, "anno_id": [], "group_id": [6]},
        4: {"id": 4, "raw_sent": "two kites", "is_negative": False, "group_id": [6]},
    }
    annotations = {
        0: {
            "id": 0, "sent_id": [1, 2], "image_id": 0, "group_id": 5, "iscrowd": [0],
            "area": [250.0], "bbox": [np.array([10.0, 20.0, 30.0, 40.0])],
            "segmentation": [{"size": [100, 200], "counts": b"abc"}],
        },
        1: {
            "id": 1, "sent_id": [1], "image_id": 0, "group_id": 5, "iscrowd": [0],
            "area": np.array([9.0]), "bbox": np.array([[0.0, 0.0, 3.0, 3.0]]), "segmentation": [],
        },
    }  # fmt: skip
    images = {
        0: {
            "id": 0, "file_name": "dogs/x.jpg", "height": 100, "width": 200, "group_id": [5],
            "anno_id": [0, 1],
        },
        1: {
            "id": 1, "file_name": "kites/y.jpg", "height": 50, "width": 60, "group_id": [6],
            "anno_id": [],
        },
    }  # fmt: skip
    groups = {
        5: {"id": 5, "inner_sent_id": [1, 2], "outer_sent_id": [3, 4], "group_name": "dogs"},
        6: {"id": 6, "inner_sent_id": [3, 4], "outer_sent_id": [1, 2], "group_name": "kites"},
    }
    tables = {
        "sentences": sentences, "annotations": annotations, "images": images, "groups": groups,
    }  # fmt: skip
    for name, table in tables.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(table))
    return folder


def test_d3_intra_asks_for_the_sentences_of_the_group(tmp_path):
    first, second = rows_of(read_d3(d3_pickles(tmp_path), tmp_path / "images"))
    assert first.labels == ("a dog", "a dog without a hat")
    assert boxes_of(first) == [
        ("a dog", (10, 20, 40, 60)),
        ("a dog without a hat", (10, 20, 40, 60)),
        ("a dog", (0, 0, 3, 3)),
    ]
    assert first.meta["kinds"] == ["presence", "absence"]
    assert first.meta["annotation_ids"] == [1, 1, 2]
    assert (second.labels, second.objects) == (("a kite", "two kites"), ())


def test_d3_refuses_a_box_with_an_angle_beside_it(tmp_path, monkeypatch):
    names = d3_pickles(tmp_path).glob("*.pkl")
    tables = {path: pickle.loads(path.read_bytes()) for path in names}
    tables[tmp_path / "annotations.pkl"][0] |= {"bbox": [10, 20, 30, 40], "rotation": 30.0}
    monkeypatch.setattr(d3, "read_pickle", tables.get)
    rejected, *_ = rows_of(read_d3(tmp_path, tmp_path / "images"))
    assert "annotation 0: rotation 30 beside its box" in rejected.reason


def test_d3_s_sentences_have_ids_of_one_kind(tmp_path):
    names = [{"id": 1, "name": "a dog"}, {"id": "2", "name": "a cat"}]
    path = write_json(tmp_path / "x.json", {"images": [], "annotations": [], "categories": names})
    with pytest.raises(DataError, match="numbers and texts"):
        read_d3(path, tmp_path)


def test_d3_inter_asks_for_all_sentences(tmp_path):
    samples = rows_of(read_d3(d3_pickles(tmp_path), tmp_path / "images", setting="inter"))
    assert [len(sample.labels) for sample in samples] == [4, 4]


@pytest.mark.usefixtures("pickles_read_here")
def test_d3_negatives_are_drawn_by_a_seed_and_order_tells_nothing(tmp_path):
    folder = d3_pickles(tmp_path)

    def asked(seed):
        reading = read_d3(folder, tmp_path, setting="inter", negatives=1, seed=seed)
        return [sample.labels for sample in rows_of(reading)]

    drawn = [asked(seed) for seed in range(20)]
    assert drawn[0] == asked(0)
    assert {len(first) for first, _ in drawn} == {3}  # two present, one drawn
    assert {len(second) for _, second in drawn} == {1}
    assert len({tuple(labels) for labels in drawn}) > 1


def test_d3_without_negatives_leaves_images_without_a_sentence_out(tmp_path):
    (sample,) = rows_of(read_d3(d3_pickles(tmp_path), tmp_path, negatives=0))
    assert sample.image == "dogs/x.jpg"


def test_d3_asks_for_one_sentence_each(tmp_path):
    folder = d3_pickles(tmp_path)
    together = rows_of(read_d3(folder, tmp_path))
    apart = rows_of(read_d3(folder, tmp_path, mode="single_class"))
    assert [s.labels for s in apart] == [(label,) for s in together for label in s.labels]
    assert len({s.id for s in apart}) == len(apart) > len(together)
    assert {s.image for s in apart} == {s.image for s in together}
    for sample in together:
        own = [item for s in apart if s.image == sample.image for item in s.objects]
        assert sorted(own, key=repr) == sorted(sample.objects, key=repr)


def test_d3_json_files_are_in_coco_form_with_sentences_for_categories(tmp_path):
    path = write_json(
        tmp_path / "d3_pres_annotations.json",
        {
            "images": [
                {"id": 0, "file_name": "dogs/x.jpg", "width": 200, "height": 100},
                {"id": 1, "file_name": "dogs/y.jpg", "width": 60, "height": 50},
            ],
            "annotations": [annotation(0, 0, 2, [10, 20, 30, 40])],
            "categories": [{"id": 2, "name": "a dog"}, {"id": 3, "name": "a kite"}],
        },
    )
    first, second = rows_of(read_d3(path, tmp_path))
    assert boxes_of(first) == [("a dog", (10, 20, 40, 60))]
    assert (second.labels, second.objects) == (("a dog",), ())  # asked for in the same group
    assert len(rows_of(read_d3(path, tmp_path, setting="inter"))[1].labels) == 2


# --- RefCOCO -----------------------------------------------------------------------------------


def refs():
    def ref(number, ann_id, split, *texts):
        sentences = [
            {"sent_id": 10 * number + i, "sent": t, "raw": t.upper(), "tokens": t.split()}
            for i, t in enumerate(texts)
        ]
        return {
            "ref_id": number, "ann_id": ann_id, "category_id": 1, "image_id": 1,
            "file_name": f"COCO_train2014_000000000001_{ann_id}.jpg", "split": split,
            "sent_ids": [s["sent_id"] for s in sentences], "sentences": sentences,
        }  # fmt: skip

    return [
        ref(1, 100, "train", "left man"),
        ref(2, 200, "testA", "right man", "man in red"),
        ref(3, 100, "testB", "the other"),
    ]


def refer_folder(root, name, refs_file, protocol=2):
    """As published: a pickle that Python 2 wrote, and instances.json in COCO form."""
    write_json(
        root / name / "instances.json",
        {
            "images": [
                {
                    "id": 1, "file_name": "COCO_train2014_000000000001.jpg",
                    "width": 640, "height": 480,
                }
            ],
            "annotations": [
                annotation(100, 1, 1, [10, 20, 30, 40]),
                annotation(200, 1, 1, [300, 100, 50, 60]),
                annotation(300, 1, 1, [0, 0, 0, 5]),  # of no use, and used by no ref
            ],
            "categories": [{"id": 1, "name": "person"}],
        },
    )  # fmt: skip
    (root / name / refs_file).write_bytes(pickle.dumps(refs(), protocol=protocol))
    return root


def test_refcoco_gives_one_sample_per_expression(tmp_path):
    refer_folder(tmp_path, "refcoco", "refs(unc).p")
    one, two = rows_of(read_refcoco(tmp_path, tmp_path, split="testA"))
    assert [one.question, two.question] == ["right man", "man in red"]
    assert one.task == "grounding"
    assert one.image == "COCO_train2014_000000000001.jpg"  # not the ref's own, with its suffix
    assert boxes_of(one) == [("right man", (300, 100, 350, 160))]
    assert one.meta["others"] == [{"bbox": [10, 20, 40, 60], "label": "person"}]
    assert (one.meta["ref_id"], one.meta["raw"]) == (2, "RIGHT MAN")


def test_refcoco_test_takes_every_test_split(tmp_path):
    refer_folder(tmp_path, "refcoco+", "refs(unc).p")
    reading = read_refcoco(tmp_path, tmp_path, dataset="refcoco+", split="test")
    assert reading.total == 3
    assert len(rows_of(reading)) == 3


def test_python_2_pickles_with_old_strings_are_read(tmp_path):
    """Protocol 0 as Python 2 wrote it: `str` of bytes, here with a UTF-8 and a Latin-1 accent."""
    refer_folder(tmp_path, "refcocog", "refs(umd).p")
    text = (
        b"(lp0\n(dp1\nS'ref_id'\nI5\nsS'ann_id'\nI100\nsS'split'\nS'val'\nsS'sentences'\n"
        b"(lp2\n(dp3\nS'sent_id'\nI7\nsS'sent'\nS'caf\\xe9 man'\nsasa."
    )
    (tmp_path / "refcocog" / "refs(umd).p").write_bytes(text)
    (sample,) = rows_of(read_refcoco(tmp_path, tmp_path, dataset="refcocog", split_by="umd"))
    assert sample.question == "café man"


def test_refcoco_names_the_splits_that_exist(tmp_path):
    refer_folder(tmp_path, "refcoco", "refs(unc).p")
    with pytest.raises(UsageError, match="splits: testA, testB, train"):
        read_refcoco(tmp_path, tmp_path, split="val")
    with pytest.raises(UsageError, match="takes unc or google"):
        read_refcoco(tmp_path, tmp_path, split_by="umd")


def test_a_ref_without_its_annotation_is_rejected(tmp_path):
    refer_folder(tmp_path, "refcoco", "refs(unc).p")
    broken = [{**refs()[0], "ann_id": key} for key in (300, 77, "x")]
    (tmp_path / "refcoco/refs(unc).p").write_bytes(pickle.dumps(broken))
    found = rows_of(read_refcoco(tmp_path, tmp_path, split="train"))
    assert all(isinstance(row, Rejected) for row in found)
    assert ["zero width" in found[0].reason, "not in instances.json" in found[1].reason] == [1, 1]


@pytest.mark.parametrize("nested", ["", "ref2"])
def test_refgta_keeps_who_understood_a_sentence(tmp_path, nested):
    refer_folder(tmp_path / nested, "refgta", "refs(utokyo).p", protocol=3)
    path = tmp_path / nested / "refgta" / "refs(utokyo).p"
    content = pickle.loads(path.read_bytes())
    content[0]["sentences"][0]["info"] = [{"if_true": True, "time": np.float64(812.5)}]
    path.write_bytes(pickle.dumps(content, protocol=3))
    (sample,) = rows_of(read_refgta(tmp_path, tmp_path, split="train"))
    assert sample.meta["info"] == [{"if_true": True, "time": 812.5}]
    json.dumps(sample.meta)


# --- ReasonSeg ---------------------------------------------------------------------------------


def reason_seg(folder, name="val/1", encoding="utf-8", **changes):
    write_image(folder / f"{name}.jpg", (64, 48))
    shape = {"label": "target", "points": [[10, 5], [20, 40.5], [3, 30]]}
    row = {
        "text": ["the thing — you sit on", "seat"],
        "is_sentence": True,
        "shapes": [
            shape,
            {"label": "ignore_1", "points": [[0, 0], [60, 47]]},
            {"label": "flag", "points": [[1, 1]]},
            {"label": "target", "points": [[30, 20], [35, 25], [31, 29]]},
        ],
        **changes,
    }
    (folder / f"{name}.json").write_bytes(json.dumps(row, ensure_ascii=False).encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_reasonseg_takes_the_box_around_all_target_polygons(tmp_path, encoding):
    reason_seg(tmp_path, encoding=encoding)
    one, two = rows_of(read_lisa(tmp_path, tmp_path))
    assert (one.id, one.image, one.size_wh) == ("val/1/0", "val/1.jpg", (64, 48))
    assert one.question == "the thing — you sit on"
    assert boxes_of(two) == [("seat", (3, 5, 35, 40.5))]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shapes": []}, "no target polygon"),
        ({"shapes": [{"label": "target", "points": [[1, "x"]]}]}, "no target polygon"),
        (
            {"shapes": [{"label": "target", "points": [[1, 2], [float("nan"), 3], [9, 9]]}]},
            "no target polygon",
        ),
        ({"shapes": [{"label": "target", "points": [[1, 1], [900, 9]]}]}, "leaves the image"),
        ({"text": "seat"}, "list of non-empty strings"),
        ({"text": None}, "list of non-empty strings"),
    ],
)
def test_a_bad_reasonseg_file_is_rejected(tmp_path, changes, reason):
    reason_seg(tmp_path, **changes)
    (rejected,) = rows_of(read_lisa(tmp_path, tmp_path))
    assert rejected.reason.startswith(f"{tmp_path / 'val/1.json'}:1: ")
    assert reason in rejected.reason


def test_a_folder_without_reasonseg_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no \.json file"):
        read_lisa(tmp_path, tmp_path)


# --- CLEVR -------------------------------------------------------------------------------------


def test_superclevr_rows_are_counting_samples(tmp_path):
    write_image(tmp_path / "images/superCLEVR_new_025000.png", (48, 32))
    row = {
        "image_path": "./images/superCLEVR_new_025000.png",
        "question": "How many different items are there in the image?",
        "ground_truth": 4,
    }
    path = tmp_path / "superclevr.jsonl"
    path.write_text(json.dumps(row) + "\n")
    for images in (tmp_path, tmp_path / "images"):
        (sample,) = rows_of(read_clevr(path, images))
        assert (sample.task, sample.answer, sample.size_wh) == ("counting", "4", (48, 32))
        assert (images / sample.image).is_file()


def test_clevr_cogent_rows_hold_their_answer_in_tags(tmp_path):
    write_image(tmp_path / "1.png")
    row = {"image": "1.png", "problem": "How many?", "solution": "<answer> 7 </answer>"}
    bad = {**row, "solution": "<answer> many </answer>"}
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(row) + "\n\n" + json.dumps(bad) + "\nnot json\n")
    sample, rejected, no_json = rows_of(read_clevr(path, tmp_path))
    assert sample.answer == "7"
    assert rejected.reason.startswith(f"{path}:3: expected a question and a count")
    assert no_json.reason.startswith(f"{path}:4: not JSON")
