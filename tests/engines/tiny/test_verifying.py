"""What the tiny VLM is taught about boxes: as many right ones as wrong ones, each with its mark."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch")

from PIL import Image

from boxrl.data.samples import read_samples
from boxrl.engines.tiny import teach_verify
from boxrl.generation.verify import QUESTION
from boxrl.types import Detections, Object, Sample


def test_a_box_is_answered_yes_where_it_lies_on_an_object_of_its_label() -> None:
    cat = Object((10.0, 10.0, 50.0, 50.0), "cat")
    sample = Sample("1", "1.png", 100, 100, "detection", ("cat",), (cat,))
    near = Object((10.0, 10.0, 50.0, 42.0), "cat")
    boxes = [cat, near, Object(cat.bbox, "dog"), Object((60.0, 60.0, 90.0, 90.0), "cat")]
    asked = list(teach_verify._answered(sample, Detections.from_objects(boxes)))
    assert [item.answer for item in asked] == ["Yes", "Yes", "No", "No"]
    assert asked[2].question == QUESTION.format(label="dog")


def test_questions_show_their_marks_and_as_many_are_right_as_wrong(tmp_path: Path) -> None:
    questions = teach_verify.draw_questions(tmp_path, 6, 0, 1)
    asked = read_samples(questions)
    counted = Counter(item.answer for item in asked)
    assert counted["Yes"] == counted["No"] > 0
    for item in asked:
        image = Image.open(tmp_path / "images" / item.image).convert("RGB")
        assert (255, 0, 0) in {colour for _, colour in image.getcolors(1 << 20)}
    recipe = teach_verify.build_recipe(tmp_path, questions, 1, 0, 1)
    assert recipe.method == "sft"
