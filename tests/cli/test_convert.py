"""Conversion through the command line: all or nothing, bad rows beside the file."""

import json
import signal
import subprocess
import sys
import time

import pytest

from boxrl.cli import build_parser, main
from boxrl.cli import convert as converting
from boxrl.data.convert import convert as convert_reading
from boxrl.data.formats import READERS
from boxrl.data.samples import read_samples
from boxrl.data.subsets import MODES, SUBSETS
from tests.data.lint.test_lint import huge_png, jpeg
from tests.support.archives import annotation, coco_document, write_image, write_json


def run(capsys, *args):
    status = main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def archive(tmp_path):
    return write_json(tmp_path / "instances.json", coco_document())


NONE_THERE = "0 of 3 images found under {}/images; not there: 'a.jpg'"


def convert(archive, out, *more, format="coco"):
    images = archive.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    source = ("--annotations", archive, "--images", images)
    return ("data", "convert", format, *source, "--out", out, *more)


def test_convert_writes_samples_and_prints_one_json_object(archive, tmp_path, capsys):
    out = tmp_path / "train.jsonl"
    status, printed, progress = run(capsys, *convert(archive, out, "--json"))
    assert status == 0
    assert json.loads(printed) == {
        "out": str(out), "samples": 2, "objects": 4, "crowd": 1, "negatives": 0, "rejected": 0,
        "notes": [NONE_THERE.format(tmp_path)], "rejected_file": None,
    }  # fmt: skip
    assert "convert coco" in progress
    assert [sample.id for sample in read_samples(out)] == ["1", "2"]


def bad_archive(tmp_path):
    document = coco_document()
    document["annotations"].insert(1, annotation(50, 1, 18, [1, 2, float("nan"), 4]))
    return write_json(tmp_path / "bad.json", document, indent=1)


def test_convert_ends_with_the_command_that_looks_at_the_samples(archive, tmp_path, capsys):
    out = tmp_path / "my train.jsonl"
    _, said, _ = run(capsys, *convert(archive, out))
    images = tmp_path / "images"
    assert said.splitlines()[-1] == f"next: boxrl data lint '{out}' --images {images}"


def test_a_bad_row_stops_the_conversion_and_nothing_is_written(tmp_path, capsys):
    out = tmp_path / "out" / "train.jsonl"
    status, printed, errors = run(capsys, *convert(bad_archive(tmp_path), out))
    assert (status, printed) == (1, "")
    last = errors.strip().splitlines()[-1]
    assert last.startswith(f"boxrl: {tmp_path / 'bad.json'}:")
    assert "--on-error skip" in last
    assert list(out.parent.iterdir()) == []


def test_skip_lists_bad_rows_with_reasons_and_converts_the_rest(tmp_path, capsys):
    out = tmp_path / "train.jsonl"
    skip = ("--on-error", "skip", "--max-rejected", "0.2", "--json")  # one of six
    status, printed, _ = run(capsys, *convert(bad_archive(tmp_path), out, *skip))
    assert status == 0
    assert json.loads(printed)["rejected"] == 1
    (line,) = (tmp_path / "train.rejected.jsonl").read_text().splitlines()
    rejected = json.loads(line)
    assert "four finite numbers" in rejected["reason"]
    assert rejected["row"]["id"] == 50
    first, second = read_samples(out)
    assert (first.labels, len(first.objects)) == (("person",), 2)  # a dog more than is readable
    assert second.labels == ("bottle",)


def test_more_than_a_tenth_rejected_stops_with_the_commonest_reason(tmp_path, capsys):
    document = coco_document()
    good = [annotation(n, 2, 44, [n, n, 5, 5]) for n in range(16)]
    bad = [annotation(90, 1, 18, [1, 2, 0, 4]), annotation(91, 1, 18, [1, 2, 3, -4])]
    bad.append(annotation(92, 1, 18, [4, 4, 3, 0]))
    archive = write_json(tmp_path / "x.json", document | {"annotations": bad + good})
    out = tmp_path / "train.jsonl"
    status, printed, errors = run(capsys, *convert(archive, out, "--on-error", "skip"))
    assert (status, printed) == (1, "")
    assert f"{out}: nothing written: 3 of 19 annotations are rejected" in errors
    assert "the commonest reason (1 times)" in errors
    assert errors.rstrip().endswith("pass --max-rejected 1.0")
    assert not out.exists()
    assert not (tmp_path / "train.rejected.jsonl").exists()
    archive = write_json(tmp_path / "x.json", document | {"annotations": bad[:1] + good})
    assert run(capsys, *convert(archive, out, "--on-error", "skip"))[0] == 0


def test_rejections_of_an_earlier_run_do_not_stay(archive, tmp_path, capsys):
    stale = tmp_path / "train.rejected.jsonl"
    stale.write_text("{}\n")
    run(capsys, *convert(archive, tmp_path / "train.jsonl"))
    assert not stale.exists()


def test_limit_takes_the_first_or_draws_by_seed(tmp_path, capsys):
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 90, "height": 90} for n in range(1, 51)]
    rows = [annotation(n, n, 18, [1, 2, 3, 4]) for n in range(1, 51)]
    document = {**coco_document(), "images": images, "annotations": rows}
    archive = write_json(tmp_path / "many.json", document)

    def ids(*more):
        run(capsys, *convert(archive, tmp_path / "x.jsonl", "--limit", 5, *more))
        return [int(sample.id) for sample in read_samples(tmp_path / "x.jsonl")]

    assert ids() == [1, 2, 3, 4, 5]
    drawn = ids("--seed", 1)
    assert drawn == sorted(drawn) == ids("--seed", 1) != ids("--seed", 2)


def test_a_source_without_samples_is_an_error(tmp_path, capsys):
    archive = write_json(tmp_path / "x.json", {**coco_document(), "annotations": []})
    status, _, errors = run(capsys, *convert(archive, tmp_path / "out.jsonl"))
    assert (status, (tmp_path / "out.jsonl").exists()) == (1, False)
    assert "no sample is left of 3 records" in errors


def test_a_source_of_negatives_alone_is_told(tmp_path, capsys):
    bare = write_json(tmp_path / "x.json", {**coco_document(), "annotations": []})
    whole = write_json(tmp_path / "y.json", coco_document())
    for archive, told in ((bare, True), (whole, False)):
        words = convert(archive, tmp_path / "out.jsonl", "--mode", "all")
        status, _, errors = run(capsys, *words)
        assert (status, "every sample is a negative" in errors) == (0, told)


def test_duplicate_image_ids_do_not_become_duplicate_samples(tmp_path, capsys):
    document = coco_document()
    document["images"] = [*document["images"], document["images"][0]]
    archive = write_json(tmp_path / "x.json", document)
    status, _, errors = run(capsys, *convert(archive, tmp_path / "out.jsonl", "--mode", "all"))
    assert status == 1
    assert f"{archive}:1: images[0]: duplicate id 1" in errors


def test_a_killed_conversion_leaves_no_file_under_the_final_name(tmp_path):
    images = [
        {"id": n, "file_name": f"{n}.jpg", "width": 90, "height": 90} for n in range(1, 60_001)
    ]
    rows = [annotation(n, n, 18, [1, 2, 3, 4]) for n in range(1, 60_001)]
    archive = write_json(
        tmp_path / "many.json", {**coco_document(), "images": images, "annotations": rows}
    )
    folder = tmp_path / "out"
    args = [str(arg) for arg in convert(archive, folder / "train.jsonl")]
    process = subprocess.Popen(
        [sys.executable, "-m", "boxrl", *args], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120  # a busy machine starts slowly
    while not (folder.is_dir() and any(p.stat().st_size for p in folder.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "train.jsonl").exists()
    assert main([*args, "--limit", "5"]) == 0  # what the kill left is in nobody's way
    assert [path.name for path in folder.iterdir()] == ["train.jsonl"]
    assert len(read_samples(folder / "train.jsonl")) == 5


def test_a_300_mb_line_is_one_error_and_can_be_skipped(tmp_path, capsys):
    path = tmp_path / "train.jsonl"
    write_image(tmp_path / "images/a.png")
    with path.open("wb") as handle:
        handle.write(b'{"id": "')
        for _ in range(300):
            handle.write(b"x" * 2**20)
        handle.write(b'"}\n' + asks_for("a.png") + b"\n")
    status, _, errors = run(capsys, *convert(path, tmp_path / "out.jsonl", format="vlmr1"))
    assert status == 1
    assert f"{path}:1: line of more than 64 MB" in errors
    args = convert(
        path, tmp_path / "out.jsonl", "--on-error", "skip", "--max-rejected", "1.0", format="vlmr1"
    )
    assert run(capsys, *args)[0] == 0
    assert len(read_samples(tmp_path / "out.jsonl")) == 1


def asks_for(image, answer="None"):
    question = "detect the following targets: a.Output"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return json.dumps({"id": 1, "image": image, "conversations": turns}).encode()


def box(coordinates):
    return f'[{{"bbox_2d": [{coordinates}], "label": "a"}}]'


HOSTILE_LINES = {
    "not a number": (asks_for("a.png", box("1, 2, NaN, 4")), "four finite numbers"),
    "infinite": (asks_for("a.png", box("1, 2, 1e999, 4")), "four finite numbers"),
    "parent folder": (asks_for("../../etc/passwd"), "leaves the images folder"),
    "absolute path": (asks_for("/etc/passwd"), "leaves the images folder"),
    "link": (asks_for("link.png"), "link out of the images folder"),
    "20,000 px": (asks_for("huge.png"), "more than 134,217,728 pixels"),
    "no pixels": (asks_for("cut.jpg"), "not a readable image"),
    "another encoding": ("{'é'}".encode("cp1252"), "not UTF-8"),
    "half a row": (asks_for("a.png")[:40], "not JSON"),
}


@pytest.mark.parametrize("kind", HOSTILE_LINES)
def test_a_hostile_line_is_one_error_and_can_be_left_out(tmp_path, capsys, kind):
    images = tmp_path / "images"
    write_image(images / "a.png")
    (images / "link.png").symlink_to("/etc/passwd")
    (images / "huge.png").write_bytes(huge_png())
    (images / "cut.jpg").write_bytes(jpeg(share=0.01))
    line, reason = HOSTILE_LINES[kind]
    path, out = tmp_path / "train.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(asks_for("a.png") + b"\n" + line + b"\n" + asks_for("a.png") + b"\n")
    status, printed, errors = run(capsys, *convert(path, out, format="vlmr1"))
    assert (status, printed, out.exists()) == (1, "", False)
    assert errors.splitlines()[-1].startswith(f"boxrl: {path}:2: ")
    assert reason in errors.splitlines()[-1]
    args = convert(
        path, out, "--on-error", "skip", "--max-rejected", "1.0", "--json", format="vlmr1"
    )
    status, printed, _ = run(capsys, *args)
    assert (status, json.loads(printed)["samples"], json.loads(printed)["rejected"]) == (0, 2, 1)
    (rejected,) = (tmp_path / "out.rejected.jsonl").read_text().splitlines()
    assert reason in json.loads(rejected)["reason"]


def test_the_command_line_offers_every_reader_subset_and_mode():
    assert tuple(SUBSETS) == converting.SUBSETS
    assert converting.MODES == MODES
    for name in READERS:
        args = build_parser().parse_args(
            ["data", "convert", name, "--annotations", "a", "--images", "b", "--out", "c"]
        )
        assert args.format == name


def test_mix_split_and_export_through_the_command_line(archive, tmp_path, capsys):
    train = tmp_path / "coco.jsonl"
    run(capsys, *convert(archive, train, "--mode", "all"))
    other = tmp_path / "other.jsonl"
    other.write_text(train.read_text())
    mixed = tmp_path / "mixed.jsonl"
    args = ("data", "mix", train, other, "--weights", 2, 1, "--out", mixed, "--json")
    assert json.loads(run(capsys, *args)[1])["taken"] == {"coco": 3, "other": 1}
    assert len(read_samples(mixed)) == 4
    parts = (tmp_path / "t.jsonl", tmp_path / "v.jsonl")
    args = ("data", "split", train, "--share", 0.3, "--train", parts[0], "--validation", parts[1])
    assert run(capsys, *args)[0] == 0
    held_out = {sample.image for sample in read_samples(parts[1])}
    assert not held_out & {sample.image for sample in read_samples(parts[0])}
    for name in converting.EXPORTS:
        out = tmp_path / f"exported.{name}"
        args = ("data", "export", name, train, "--out", out, "--family", "qwen2.5-vl", "--json")
        assert run(capsys, *args)[0] == 0
        assert out.stat().st_size > 0


def test_mix_says_how_many_images_lie_in_the_folders_and_refuses_those_that_are_not_there(
    archive, tmp_path, capsys
):
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in files:
        run(capsys, *convert(archive, path))
    sample = read_samples(files[0])[0]
    write_image(tmp_path / "one" / sample.image, sample.size_wh)
    (tmp_path / "two").mkdir()
    mix = ("data", "mix", *files, "--out", tmp_path / "mixed.jsonl", "--root", tmp_path)
    folders = tmp_path / "one", tmp_path / "two"
    status, _, errors = run(capsys, *mix, "--images", *folders)
    assert status == 0
    assert f"note: 1 of 2 images of a found under {folders[0]}" in errors
    assert f"note: 0 of 2 images of b found under {folders[1]}" in errors
    status, _, errors = run(capsys, *mix, "--images", folders[0], tmp_path / "three")
    assert (status, "three: no such folder" in errors) == (2, True)
    status, _, errors = run(capsys, *mix)
    assert (status, "--images names 0 folders for 2 files" in errors) == (2, True)


@pytest.mark.parametrize("mode", ["positive", "single_class", "all"])
def test_the_progress_bar_ends_at_the_total_whatever_an_image_gives(tmp_path, mode):
    document = coco_document()
    first, *_ = pictures = document["images"]
    document["images"] = [*pictures, *({**first, "id": 100 + k} for k in range(80))]
    archive = write_json(tmp_path / "instances.json", document)
    reading, steps = READERS["coco"](archive, tmp_path, mode=mode), []
    convert_reading(reading, tmp_path / "out.jsonl", advance=steps.append)
    assert sum(steps) == reading.total == 83


def test_convert_counts_boxes_as_stats_does_and_names_what_positive_lacks(
    archive, tmp_path, capsys
):
    out = tmp_path / "train.jsonl"
    _, printed, _ = run(capsys, *convert(archive, out))
    first, hint, _ = printed.splitlines()
    assert first == f"{out}: 2 samples, 4 boxes, 1 crowd region, 0 negatives"
    assert "--negatives K" in hint
    assert "4 boxes, 1 crowd region, 0 negatives" in run(capsys, "data", "stats", out)[1]
    assert "--negatives" not in run(capsys, *convert(archive, out, "--negatives", "1"))[1]


def test_results_replace_earlier_results_but_never_what_is_read(archive, tmp_path, capsys):
    train, other = tmp_path / "train.jsonl", tmp_path / "other.jsonl"
    for _ in range(2):
        assert run(capsys, *convert(archive, train))[0] == 0
    other.write_text(train.read_text())
    rejected = tmp_path / "x.rejected.jsonl"
    rejected.write_text("{}\n")
    (tmp_path / "out").mkdir()
    alias = tmp_path / "out/../train.jsonl"
    calls = [
        (archive, convert(archive, archive)),
        (rejected, convert(rejected, tmp_path / "x.jsonl", format="vlmr1")),
        (train, ("data", "mix", train, other, "--out", train)),
        (alias, ("data", "export", "coco", train, "--out", alias)),
        (other, ("data", "split", train, "--train", other, "--validation", other)),
    ]
    for path, args in calls:
        before = path.read_bytes()
        status, printed, errors = run(capsys, *args)
        assert (status, printed, path.read_bytes()) == (2, "", before)
        assert f"boxrl: {path}: is " in errors
