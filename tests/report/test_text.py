"""Thoughts found and grouped, charts that hold their data."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxrl.report.gallery import shared_ends
from boxrl.report.glyphs import draw_axis, draw_interval, dumbbell, shares
from boxrl.report.plots import HEIGHT, WIDTH, Line, PlotMark, histogram, line_chart, nice_axis, thin
from boxrl.report.thinking import extract_thinking, normalise_thinking, thinking_patterns


@pytest.mark.parametrize(
    ("text", "thinking"),
    [
        ("<think>4</think><answer>None</answer>", "4"),
        ("<think> a\n</think> <think>b</think>", "a"),
        ("<think>no end <answer>None</answer>", "no end"),
        ("<think>cut", "cut"),
        ("<think></think>", ""),
        ("\u25c1think\u25b7one cat\u25c1/think\u25b7None", "one cat"),
        ("<answer>None</answer>", None),
        ("</think>", None),
    ],
)
def test_thinking_is_found(text: str, thinking: str | None) -> None:
    assert extract_thinking(text) == thinking


def test_thoughts_that_differ_in_numbers_and_labels_are_one_pattern() -> None:
    assert normalise_thinking("2  Red Circle", ["red circle"]) == "# [label]"
    assert normalise_thinking("3 cats, 1 bus", ["cat", "bus"]) == "# [label], # [label]"
    assert normalise_thinking("a scarred cat at 3.5", ["car", "cat"]) == "a scarred [label] at #"
    thoughts = [("s1", "1 cat", ["cat"]), ("s2", "7 dog", ["dog"]), ("s3", "image.", ["dog"])]
    patterns = thinking_patterns([*thoughts, ("s4", None, ["dog"])])
    assert [(p.text, p.count, p.share) for p in patterns] == [
        ("# [label]", 2, 0.5),
        ("image.", 1, 0.25),
    ]
    assert (patterns[0].example_id, patterns[0].example) == ("s1", "1 cat")


@given(st.lists(st.text("ab", max_size=6), min_size=1, max_size=5))
def test_shared_ends_and_the_rest_give_the_text_back(texts: list[str]) -> None:
    start, end = shared_ends(texts)
    for text in texts:
        rest = text[len(start) : len(text) - len(end)]
        assert rest.join((start, end)) == text


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_nice_axis_covers_the_data(low: float, reach: float) -> None:
    axis = nice_axis("x", low, low + reach)
    slack = 1e-6 * max(abs(low), reach, 1)
    assert axis.ticks[0] <= low + slack
    assert axis.ticks[-1] >= low + reach - slack
    assert 2 <= len(axis.ticks) <= 9


def numbers(svg: str, pattern: str) -> list[float]:
    return [float(x) for x in re.findall(pattern, svg)]


points = st.lists(
    st.tuples(st.integers(0, 10_000), st.none() | st.floats(-1e9, 1e9)), min_size=1, max_size=40
)


@given(points)
def test_curves_stay_inside_their_chart(drawn: list[tuple[int, float | None]]) -> None:
    line = sorted({float(x): y for x, y in drawn}.items())
    if not any(y is not None for _, y in line):
        return
    svg = line_chart([Line("<b>", line)], "step", "loss & more", [PlotMark(line[0][0], "a<b")])
    ElementTree.fromstring(svg)  # well-formed, everything escaped
    for path in re.findall(r' d="([^"]*)"', svg):
        coordinates = [float(x) for x in re.findall(r"-?\d+\.?\d*", path.replace("h0", ""))]
        assert all(-0.1 <= x <= WIDTH for x in coordinates[::2])
        assert all(-0.1 <= y <= HEIGHT for y in coordinates[1::2])


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60), st.integers(1, 4000))
def test_histogram_counts_every_value_once(values: list[int], cut: int) -> None:
    svg = histogram(values, "tokens", cut, max(values))
    ElementTree.fromstring(svg)
    assert sum(numbers(svg, r"<title>[^<]*: (\d+)</title>")) == len(values)


def test_histogram_says_how_many_are_beyond_the_cut() -> None:
    assert "3,000 and more: 2" in histogram([10, 20, 3000, 9999], "tokens", 3000, 9999)
    assert "3,000" not in histogram([10, 20], "tokens", 3000, 20).partition("<rect")[2]


def test_histograms_of_one_page_have_one_axis() -> None:
    def ticks(values: list[int]) -> list[str]:
        svg = histogram(values, "tokens", 3000, 50)
        return re.findall(r'text-anchor="middle">(\d+)</text>', svg)

    assert ticks([10, 20]) == ticks([50]) == ["0", "20", "40"]


def test_shares_fill_the_bar_in_proportion() -> None:
    svg = shares([("ok", 3, "k-ok"), ("none", 0, "k-none"), ("bad", 1, "k-bad")], "status")
    widths = numbers(svg, r'width="([\d.]+)"')
    assert len(widths) == 2
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.02)
    assert "ok 75%, bad 25%" in svg


def test_small_charts_are_well_formed() -> None:
    intervals = (
        draw_interval(0.1, (-0.2, 5.0), (-1, 1), 0),
        draw_interval(0.1, None, (0, 1), None),
    )
    for svg in (*intervals, draw_axis(-1, 1), dumbbell(None, 0.5), dumbbell(0.0, 1.0)):
        ElementTree.fromstring(svg)
    assert dumbbell(None, None).count("circle") == 0


def test_intervals_stand_on_the_axis_that_is_drawn_over_them() -> None:
    axis = (-0.4, 0.4)
    ticks = [float(x) for x in re.findall(r'x="([\d.]+)" y="11"', draw_axis(*axis))]
    assert re.findall(r">([^<]+)</text>", draw_axis(*axis)) == ["\u22120.4", "0", "+0.4"]
    assert re.findall(r">([^<]+)</text>", draw_axis(0, 1)) == ["0", "0.5", "1"]
    dots = [
        numbers(draw_interval(value, None, axis, None), r'cx="([\d.]+)"')[0]
        for value in (-0.4, 0.0, 0.4, 7.0)
    ]
    assert dots[:3] == ticks and dots[3] == ticks[2]


def test_thinning_keeps_extremes_and_order() -> None:
    line = [(float(x), float(x % 7)) for x in range(5000)]
    line[1234] = (1234.0, 99.0)
    kept = thin(line, 100)
    assert len(kept) <= 102
    assert (1234.0, 99.0) in kept
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
