"""Answers as makers' models write them, read to the pixel."""

import json
from pathlib import Path

import numpy as np
import pytest

from boxrl.families import FAMILIES
from boxrl.parsing import parse, read_points
from boxrl.types import Asked

MAKERS = Path(__file__).parents[1] / "golden/families/makers.jsonl"
CASES = [json.loads(line) for line in MAKERS.read_text().splitlines()]
SAME = {"gemini-2.5": "gemini-2"}
TOLERANCE_PX = {
    "paligemma": 0.63,  # its last token is the far edge here, 1023 / 1024 of it there
    "florence-2": 1.0,  # cut to whole pixels there
    "locateanything": 1.0,  # clipped to the last pixel there
}
SUPERVISION = {
    "qwen3-vl": ("QWEN_3_VL", ("resolution_wh",)),
    "qwen3.5": ("QWEN_3_VL", ("resolution_wh",)),
    "qwen2.5-vl": ("QWEN_2_5_VL", ("input_wh", "resolution_wh")),
    "deepseek-vl2": ("DEEPSEEK_VL_2", ("resolution_wh",)),
    "gemini-2": ("GOOGLE_GEMINI_2_0", ("resolution_wh",)),
    "gemini-2.5": ("GOOGLE_GEMINI_2_5", ("resolution_wh",)),
    "gemini-3.6": ("GOOGLE_GEMINI_3_6", ("resolution_wh",)),
    "paligemma": ("PALIGEMMA", ("resolution_wh",)),
}
"""Name of the parser in supervision's VLM, and which sizes it wants."""


def read(case):
    return parse(
        case["text"],
        FAMILIES[SAME.get(case["family"], case["family"])],
        tuple(case["size_wh"]),
        tuple(case["input_size_wh"]),
        "optional",
        Asked(tuple(case["question_labels"])),
    ).detections


def name(case):
    return f"{case['family']}: {case['text'][:40]!r}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_makers_answers_are_read_to_the_pixel(case):
    found = read(case)
    wanted = np.reshape(case["boxes_xyxy_pixels"], (-1, 4))
    tolerance = TOLERANCE_PX.get(case["family"], 1e-3)
    np.testing.assert_allclose(found.boxes, wanted, rtol=0, atol=tolerance)
    assert list(found.labels) == case["labels"]


@pytest.mark.parametrize("case", [case for case in CASES if "points" in case], ids=name)
def test_points_are_read_to_the_pixel(case):
    points = read_points(case["text"], FAMILIES[case["family"]], tuple(case["size_wh"]))
    np.testing.assert_allclose([point[:2] for point in points], case["points"], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "case",
    [
        c
        for c in CASES
        if c["family"] in SUPERVISION and c["labels"] and "</think>" not in c["text"]
    ],
    ids=name,
)
def test_supervision_reads_the_same(case):
    supervision = pytest.importorskip("supervision")
    parser, sizes = SUPERVISION[case["family"]]
    known = {"resolution_wh": tuple(case["size_wh"]), "input_wh": tuple(case["input_size_wh"])}
    theirs = supervision.Detections.from_vlm(
        getattr(supervision.VLM, parser), case["text"], **{size: known[size] for size in sizes}
    )
    tolerance = TOLERANCE_PX.get(case["family"], 1e-3)
    np.testing.assert_allclose(read(case).boxes, theirs.xyxy, rtol=0, atol=tolerance)
    assert list(read(case).labels) == list(theirs.data["class_name"])
