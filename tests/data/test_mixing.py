"""Mixing and splitting samples files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.data.mixing import Source, counts_by_weight, mix, relative_folder, shared_images
from boxrl.data.stats import describe
from boxrl.errors import UsageError
from boxrl.types import Object, Sample


def samples(count, images=None):
    return [
        Sample(str(n), f"{n % (images or count)}.jpg", 10, 10, "detection", ("a",))
        for n in range(count)
    ]


def test_a_mixture_holds_what_was_asked_for_under_new_ids_and_paths():
    sources = [Source("a", samples(5), "coco"), Source("b", samples(9))]
    mixed = mix(sources, [2, 3], seed=1)
    assert sorted(sample.meta["source"] for sample in mixed) == ["a", "a", "b", "b", "b"]
    assert len({sample.id for sample in mixed}) == 5
    for sample in mixed:
        number = sample.id.partition("/")[2]
        folder = "coco/" if sample.meta["source"] == "a" else ""
        assert sample.image == f"{folder}{number}.jpg"
    assert mix(sources, [2, 3], seed=1) == mixed != mix(sources, [2, 3], seed=2)


def test_a_file_cannot_give_more_than_it_holds_nor_share_its_name():
    with pytest.raises(UsageError, match="file 1 holds 3 samples, 4 are asked for"):
        mix([Source("a", samples(3))], [4], seed=0)
    with pytest.raises(UsageError, match="must differ"):
        mix([Source("a", samples(3)), Source("a", samples(3))], [1, 1], seed=0)


@pytest.mark.parametrize(
    ("sizes", "weights", "total", "counts"),
    [
        ([100, 100], [1, 1], None, [100, 100]),
        ([100, 30], [0.5, 0.5], None, [30, 30]),
        ([100, 30], [9, 1], None, [100, 11]),
        ([100, 100], [2, 1], 10, [7, 3]),
    ],
)
def test_counts_by_weight(sizes, weights, total, counts):
    assert counts_by_weight(sizes, weights, total) == counts


@given(
    pairs=st.lists(st.tuples(st.integers(1, 1000), st.floats(0.01, 100)), min_size=1, max_size=5)
)
def test_counts_stay_within_one_of_exact_shares(pairs):
    sizes, weights = zip(*pairs, strict=True)
    counts = counts_by_weight(sizes, weights)
    total = sum(counts)
    for count, size, weight in zip(counts, sizes, weights, strict=True):
        assert 0 <= count <= size
        assert abs(count - total * weight / sum(weights)) < 1


@pytest.mark.parametrize(
    "weights", [[1], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")], [1e308, 1e308]]
)
def test_weights_are_positive_numbers_one_per_file(weights):
    with pytest.raises(UsageError, match="2 positive numbers"):
        counts_by_weight([5, 5], weights)


def test_folders_are_relative_to_a_root_that_holds_them(tmp_path):
    assert relative_folder(tmp_path / "coco/train", tmp_path) == "coco/train"
    assert relative_folder(tmp_path, tmp_path) == ""
    with pytest.raises(UsageError, match="lies outside"):
        relative_folder(tmp_path, tmp_path / "coco")


def test_one_path_of_several_files_is_told_and_with_two_sizes_refused():
    near = [Sample("1", "0.jpg", 20, 10, "detection", ("a",))]
    assert shared_images([Source("a", samples(2)), Source("b", samples(1))]) == ["0.jpg"]
    assert shared_images([Source("a", samples(2), "x"), Source("b", near, "y")]) == []
    with pytest.raises(UsageError, match=r"'0.jpg' is an image of 10 x 10 and 20 x 10 px"):
        shared_images([Source("a", samples(2)), Source("b", near)])


def test_stats_add_up():
    items = (
        Object((0, 0, 10, 10), "cat"),
        Object((0, 0, 50, 50), "cat"),
        Object((0, 0, 200, 100), "dog"),
        Object((0, 0, 300, 300), "dog", iscrowd=True),
    )
    rows = [
        Sample("1", "a.jpg", 640, 480, "detection", ("cat", "dog", "bird"), items),
        Sample("2", "b.jpg", 640, 480, "detection", ("bird",)),
    ]
    figures = describe(rows)
    assert (figures["samples"], figures["images"], figures["negatives"]) == (2, 2, 1)
    assert (figures["boxes"], figures["crowd"]) == (3, 1)
    assert figures["sizes"] == {"small": 1, "medium": 1, "large": 1, "tiny": 1}
    assert figures["labels"]["cat"] == {"asked": 1, "boxes": 2, "negatives": 0}
    assert figures["labels"]["bird"] == {"asked": 2, "boxes": 0, "negatives": 2}
    assert figures["boxes_per_sample"] == {"min": 0, "mean": 1.5, "median": 3, "max": 3}


@pytest.mark.parametrize("total", [-1, 2.5])
def test_a_total_is_a_whole_number(total):
    with pytest.raises(UsageError, match="expected a whole number of samples, 0 or more"):
        counts_by_weight([5, 5], [1, 1], total)
