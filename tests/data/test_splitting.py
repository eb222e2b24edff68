"""Validation files that show nothing of the training file."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.cli import main
from boxrl.data.samples import read_samples, write_samples
from boxrl.data.splitting import ROBOFLOW, group_images, group_key, split
from boxrl.errors import DataError, UsageError
from boxrl.types import Object, Sample
from tests.support.archives import write_image


def sample(number, image=None, *labels):
    objects = tuple(Object((0, 0, 5, 5), label) for label in labels)
    image = image or f"{number}.jpg"
    return Sample(str(number), image, 10, 10, "detection", ("a", "b", "c"), objects)


def samples(count, images=None):
    return [sample(n, f"{n % (images or count)}.jpg") for n in range(count)]


@given(
    count=st.integers(2, 60), images=st.integers(2, 20), share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_no_image_is_on_both_sides(count, images, share, seed):
    everything = samples(count, images)
    parts = split(everything, share, seed)
    assert parts.training and parts.validation
    assert not {s.image for s in parts.training} & {s.image for s in parts.validation}
    assert sorted(parts.training + parts.validation, key=lambda s: int(s.id)) == everything
    assert split(everything, share, seed) == parts
    assert split(everything[::-1], share, seed).validation == parts.validation[::-1]


@pytest.mark.parametrize("share", [0, 1, -0.5, float("nan")])
def test_a_share_is_between_zero_and_one(share):
    with pytest.raises(UsageError):
        split(samples(4), share, 0)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_each_side_has_its_share_of_every_label_and_of_negatives(share):
    labels = [("a",)] * 400 + [("a", "b")] * 60 + [("b", "c")] * 20 + [("c",)] * 20 + [()] * 100
    everything = [sample(n, None, *found) for n, found in enumerate(labels)]
    validation = split(everything, share, 3).validation
    assert len(validation) == pytest.approx(600 * share, abs=3)
    held = Counter(item.label for s in validation for item in s.objects)
    assert held["a"] == pytest.approx(460 * share, abs=2)
    assert held["b"] == pytest.approx(80 * share, abs=2)
    assert held["c"] == pytest.approx(40 * share, abs=2)
    assert sum(not s.objects for s in validation) == pytest.approx(100 * share, abs=2)


def test_a_label_of_few_images_is_on_both_sides():
    everything = [sample(n, None, "a") for n in range(95)] + [
        sample(n, None, "b") for n in range(95, 100)
    ]
    for seed in range(5):
        parts = split(everything, 0.1, seed)
        for side in (parts.training, parts.validation):
            assert {item.label for s in side for item in s.objects} == {"a", "b"}


def test_expressions_that_stand_once_do_not_keep_validation_empty():
    everything = [sample(n, None, f"the {n}th man") for n in range(100)]
    assert len(split(everything, 0.1, 0).validation) == 10


def test_copies_by_roboflow_stay_together_by_default_and_other_groups_by_a_regex():
    names = [f"IMG_{n // 3}_jpg.rf.{n:02x}aa.jpg" for n in range(30)]
    everything = [sample(n, name, "a") for n, name in enumerate(names)]
    parts = split(everything, 0.3, 1)
    assert (parts.images, parts.groups, len(parts.validation)) == (30, 10, 9)
    bases = [{s.image.partition(".rf.")[0] for s in side} for side in parts[:2]]
    assert not bases[0] & bases[1]
    apart = split(everything, 0.3, 1, group_by="$^")
    assert apart.groups == 30
    videos = [sample(n, f"video{n % 4}/{n}.jpg") for n in range(20)]
    parts = split(videos, 0.25, 0, group_by=r"^(video\d+)/")
    assert {s.image[:6] for s in parts.training} & {s.image[:6] for s in parts.validation} == set()
    assert parts.groups == 4


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("train/IMG_0_jpg.rf.0a1b2c3d.jpg", "IMG_0_jpg"),
        ("a.b_png.rf.0123456789abcdef0123456789abcdef.jpg", "a.b_png"),
        ("surf.rf.jpg", None),
        ("plain.jpg", None),
    ],
)
def test_names_of_roboflow(name, key):
    assert group_key(name, ROBOFLOW) == key


def test_images_of_equal_content_stay_together(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / name)
    write_image(tmp_path / "d.png", (10, 10))
    everything = [sample(n, f"{name}.png") for n, name in enumerate("abcd")]
    groups = group_images(everything, images=tmp_path)
    assert groups == [["a.png", "b.png", "c.png"], ["d.png"]]
    with pytest.raises(UsageError, match="in 1 groups"):
        split(everything[:3], 0.5, 0, images=tmp_path)
    with pytest.raises(DataError, match=r"no image .*e\.png"):
        split([*everything, sample(9, "e.png")], 0.5, 0, images=tmp_path)


def test_an_expression_that_is_none_is_a_wrong_call(tmp_path, capsys):
    write_samples(tmp_path / "x.jsonl", samples(9))
    files = [str(tmp_path / name) for name in ("x.jsonl", "t.jsonl", "v.jsonl")]
    call = ["data", "split", files[0], "--train", files[1], "--validation", files[2]]
    assert main([*call, "--group-by", "("]) == 2
    assert "--group-by '(': no regular expression" in capsys.readouterr().err
    assert main([*call, "--group-by", "[0-2]"]) == 0
    assert "9 images in 9 groups" not in capsys.readouterr().out
    assert len(read_samples(tmp_path / "t.jsonl")) == 8


@pytest.mark.parametrize(("count", "share", "said"), [
    (70, "0.1", "intervals over 7 samples are wide; --share 0.5 holds out more"),
    (70, "0.5", ""),
    (300, "0.1", ""),
    (5, "0.5", ""),
    (2, "0.1", ""),  # half of them are held out as it is
])  # fmt: skip
def test_few_held_out_samples_are_told(tmp_path, capsys, count, share, said):
    write_samples(tmp_path / "x.jsonl", samples(count))
    files = [str(tmp_path / name) for name in ("x.jsonl", "t.jsonl", "v.jsonl")]
    call = ["data", "split", files[0], "--train", files[1], "--validation", files[2]]
    assert main([*call, "--share", share]) == 0
    out = capsys.readouterr().out
    assert said in out and ("note" in out) == bool(said)
