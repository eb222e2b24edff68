"""The page of `data show`: what it tells, hostile data, missing images, its size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.data.samples import write_samples
from boxrl.types import Object, Sample
from tests.report.test_page import Page
from tests.support.archives import write_image

HOSTILE = "</script><script>alert(1)</script><!-- \"'&\u202e"


def sample(name: str, *objects: Object, labels: tuple[str, ...] = ("dog", "cat"), **more) -> Sample:
    return Sample(name, f"{name}.png", 64, 48, "detection", labels, objects, **more)


DOG = Object((1.0, 2.0, 30.0, 40.0), "dog")
CROWD = Object((5.0, 5.0, 9.5, 9.25), "cat", iscrowd=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png", (64, 48))
    return tmp_path / "images"


def show(folder: Path, samples: list[Sample], *options: str) -> Page:
    write_samples(folder / "train.jsonl", samples)
    words = ["data", "show", str(folder / "train.jsonl"), "--images", str(folder / "images")]
    assert main([*words, *options]) == 0
    return Page(folder / "train.html")


@pytest.mark.usefixtures("images")
def test_boxes_questions_gold_answers_and_figures_are_shown(tmp_path: Path):
    others = [{"bbox": [0, 0, 4, 4], "label": "bird"}]
    page = show(
        tmp_path, [sample("a", DOG, CROWD, meta={"others": others}), sample("b", labels=("cat",))]
    )
    first, second = page.payload["samples"]
    assert first["targets"] == [[1, 2, 30, 40, 0, 0], [5, 5, 9.5, 9.2, 1, 1]]
    assert first["others"] == [[0, 0, 4, 4, page.payload["labels"].index("bird"), 0]]
    assert first["gold"].startswith("<think>1 dog, 0 cat</think>\n<answer>```json\n[{")
    assert "None" in second["gold"] and second["negative"] == 1
    start, end = page.payload["prompt"]
    assert "dog; cat" in start + first["prompt"] + end
    assert len(page.payload["pictures"]) == 2
    assert all(url.startswith("data:image/") for url in page.payload["pictures"])
    for told in ("Image tokens", "qwen2.5-vl", "boxes a sample", "of these under 0.5 %"):
        assert told in page.text
    assert "Rejected" not in page.text and "Not everything is here" not in page.text


@pytest.mark.usefixtures("images")
def test_what_was_rejected_is_told_with_its_reasons(tmp_path: Path):
    rejected = tmp_path / "train.rejected.jsonl"
    rows = [{"reason": f"x.json:{n}: bbox [{n}, 1, 2] has zero width", "row": n} for n in (1, 2)]
    rows.append({"reason": f"x.json:9: label {HOSTILE} is none", "row": None})
    rejected.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON\n")
    page = show(tmp_path, [sample("a", DOG)])
    assert "4 rows of the source became no sample" in page.text
    assert "x.json:1: bbox [1, 1, 2] has zero width" in page.text
    assert "this line of the file cannot be read" in page.text
    assert "x.json:2:" not in page.text  # one example of a kind


@pytest.mark.usefixtures("images")
def test_hostile_data_stay_text(tmp_path: Path):
    item = Object((1, 1, 9, 9), HOSTILE)
    page = show(tmp_path, [
        Sample(HOSTILE, "a.png", 64, 48, "detection", (HOSTILE,), (item,), meta={"mode": HOSTILE}),
        Sample("q", "b.png", 64, 48, "region", ("x",), (item,), question=HOSTILE, answer=HOSTILE),
    ])  # fmt: skip
    text = (tmp_path / "train.html").read_text("utf-8")
    assert "<script>alert" not in text and "\u202e" not in text
    assert [tag for tag, _ in page.elements].count("script") == 3
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy and "default-src 'none'" in policy and "connect-src 'none'" in policy
    assert "http:" not in text.replace("http-equiv", "") and "https:" not in text


def test_no_image_from_outside_of_the_folder_is_shown(tmp_path: Path, images: Path, capsys):
    write_image(tmp_path / "secret.png", (64, 48))
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    (images / "broken.png").write_bytes(b"no image")
    names = ("a", "link", "gone", "broken")
    page = show(tmp_path, [sample(name, DOG) for name in names])
    assert ["picture" in row for row in page.payload["samples"]] == [True, False, False, True]
    assert [url is None for url in page.payload["pictures"]] == [False, True]
    told = "2 of 4 samples have no image under"
    assert told in page.text and told in capsys.readouterr().err
    assert "1 image cannot be read" in page.text


def test_a_turned_image_is_told_of_and_not_shown(images: Path, tmp_path: Path):
    write_image(images / "b.png", (48, 64))
    write_image(images / "c.png", (31, 23))  # a scaled copy, rounded
    page = show(tmp_path, [sample(name, DOG) for name in "abc"])
    assert ["picture" in row for row in page.payload["samples"]] == [True, False, True]
    assert "1 sample shown without a picture" in page.text


@pytest.mark.usefixtures("images")
def test_a_large_file_is_drawn_from_and_counted_whole(tmp_path: Path):
    samples = [sample(f"s{n}", DOG) for n in range(40)]
    page = show(tmp_path, samples, "--limit", "7", "--seed", "3")
    ids = [row["id"] for row in page.payload["samples"]]
    assert len(ids) == 7 and ids == sorted(ids, key=lambda key: int(key[1:]))
    assert "shows 7 of 40 samples" in page.text
    again = show(tmp_path, samples, "--limit", "7", "--seed", "3")
    assert [row["id"] for row in again.payload["samples"]] == ids


@pytest.mark.usefixtures("images")
def test_nothing_is_written_over_but_an_earlier_page(tmp_path: Path, capsys):
    write_samples(tmp_path / "train.jsonl", [sample("a", DOG)])
    words = ["data", "show", str(tmp_path / "train.jsonl"), "--images", str(tmp_path / "images")]
    note = tmp_path / "note.txt"
    note.write_text("mine")
    for out in ("note.txt", "train.jsonl", "train.rejected.jsonl"):
        assert main([*words, "--out", str(tmp_path / out)]) == 2
    assert note.read_text() == "mine"
    assert main(words) == 0 and main(words) == 0
    assert main([*words[:4], str(tmp_path / "imgaes")]) == 2
    assert "no such folder" in capsys.readouterr().err
