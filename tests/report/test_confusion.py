"""The table of labels that were answered under other labels."""

from __future__ import annotations

from pathlib import Path

from boxrl.evaluate.judging import Question, judge
from boxrl.evaluate.rows import Row
from boxrl.report import build_report
from boxrl.report.confusion import MOST_LABELS, OTHERS, SHADES, confusion_table, count_confused
from boxrl.report.reading import read_run
from boxrl.types import Object
from tests.report.test_page import Page
from tests.support.evaluations import PLAIN, A, B, answer, prediction, sample
from tests.support.report_runs import build_run


def row(targets: list[str], said: list[str]) -> Row:
    """A judged answer whose boxes stand on the targets, in order, under these labels."""
    places = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(5)]
    asked = sample("s", *zip(places, targets, strict=False))
    text = answer(*zip(places, said, strict=False))
    return judge(Question.from_sample(asked), prediction("s", text), PLAIN)


def test_cells_count_objects_by_label_and_answer() -> None:
    before = [row(["cat", "cat", "dog"], ["dog", "dog", "dog"])]
    after = [row(["cat", "cat", "dog"], ["cat", "dog", "dog"]), row(["dog"], []), row([], ["cat"])]
    table = confusion_table(before, after)
    assert table is not None
    assert table.labels == ["cat", "dog"]
    counts = {label: [cell.count for cell in cells] for label, cells in table.rows}
    assert counts == {"cat": [1, 1, 0], "dog": [0, 1, 1]}
    assert [cell.count for cell in table.nothing] == [1, 0]
    assert [cell.right for _, cells in table.rows for cell in cells] == [
        True,
        *[False] * 3,
        True,
        False,
    ]
    (pair,) = table.pairs
    assert (pair.target, pair.said, pair.before, pair.after, pair.targets) == (
        "cat",
        "dog",
        2,
        1,
        2,
    )
    alone = confusion_table(None, after)
    assert alone is not None and alone.pairs[0].before is None


def test_rare_labels_share_a_row_and_shades_stay_in_range() -> None:
    names = [f"label {i}" for i in range(MOST_LABELS + 3)]
    rows = [row([name], [name]) for name in names for _ in range(2 if name != names[-1] else 1)]
    table = confusion_table(None, rows)
    assert table is not None
    assert len(table.labels) == MOST_LABELS + 1 and table.labels[-1] == OTHERS
    assert table.rows[-1][1][-2].count == 5
    shades = {cell.shade for _, cells in table.rows for cell in cells}
    assert shades == {0, SHADES}
    assert not table.pairs
    assert confusion_table(None, [row(["cat"], ["cat"])]) is None
    assert confusion_table(None, []) is None


def test_boxes_in_crowd_regions_are_in_no_cell() -> None:
    crowd = Object((0, 0, 50, 50), "cat", iscrowd=True)
    asked = sample("1", (B, "cat"))
    asked = type(asked)("1", "1.png", 100, 100, "detection", ("cat",), (crowd, *asked.objects))
    said = answer((B, "cat"), ([5.0, 5.0, 20.0, 20.0], "cat"), (A, "dog"))
    counts = count_confused([judge(Question.from_sample(asked), prediction("1", said), PLAIN)])
    assert counts == {("cat", "cat"): 1, (None, "dog"): 1}


def test_page_shows_the_table_and_the_diagonal_is_what_precision_counts(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", samples=12)
    build_report(run, tmp_path / "report.html")
    assert "Which label was answered by which" in Page(tmp_path / "report.html").text
    rows = read_run(run).evaluations["before_sampled"].rows
    counts = count_confused(rows)
    assert sum(n for pair, n in counts.items() if pair.target == pair.said) == sum(
        r.tp for r in rows
    )
