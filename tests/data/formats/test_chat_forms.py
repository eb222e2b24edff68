"""The form of boxes that the words of a row state, beside the family's."""

import pytest

from tests.support.archives import write_image
from tests.support.chat import ANSWER, read


@pytest.fixture
def images(tmp_path):
    write_image(tmp_path / "images/a.jpg", (200, 100))
    return tmp_path / "images"


WORDS = [
    (
        "Output [x, y, width, height].",
        "plain",
        "'[x, y, width, height]', and they would be read as",
    ),
    ("Output {ymin, xmin, ymax, xmax}.", "plain", "with like: plain and axes: yxyx, or mend"),
    ('Boxes are ["cx", "cy", "w", "h"] in pixels.', "plain", "write the boxes as [x1, y1, x2, y2]"),
    ("Boxes: (x_center, y_center, box_width, box_height)", "plain", "x_center, y_center"),
    ("Use the xywh format.", "plain", "'xywh'"),
    ("Output [xmin, xmax, ymin, ymax].", "plain", "'[xmin, xmax, ymin, ymax]'"),
    ("Output [x1, y1, x2, y2].", "gemma", "axes: xyxy"),
    ("Output boxes normalized to 0-1000.", "plain", "boxes '0-1000', and they would be read as of"),
    ("Output boxes normalized to 1000.", "qwen2.5-vl", "'normalized to 1000'"),
    ("Output normalized coordinates.", "plain", "boxes 'normalized', and they"),
    ("Coordinates are in the range [0, 1].", "qwen3-vl", "boxes '[0, 1]', and they"),
    ("Coordinates from 0 to 1.", "plain", "boxes '0 to 1', and they"),
    ("Give pixel coordinates.", "qwen3-vl", "boxes 'pixel coordinates', and they"),
    ("Output [x1, y1, x2, y2].", "plain", ""),
    ("Output [[x0, y0, x1, y1], ...] in pixels.", "plain", ""),
    ("Output [xmin, ymin, xmax, ymax].", "plain", ""),
    ("Output [(x_min, y_min), (x_max, y_max)].", "plain", ""),
    ("Output [left, top, right, bottom].", "plain", ""),
    ("Output [x_top_left, y_top_left, x_bottom_right, y_bottom_right].", "plain", ""),
    ("Output [x1, y1, x2, y2] normalized to 0-1000.", "qwen3-vl", ""),
    ("Output normalized coordinates.", "qwen3-vl", ""),
    ("Output boxes, and a confidence from 0 to 1.", "plain", ""),
    ("Output boxes, which are not normalized.", "plain", ""),
    ("Is it [a cat, a dog, a man, a bird]?", "plain", ""),
]


@pytest.mark.parametrize(("words", "family", "said"), WORDS)
def test_a_form_that_the_question_states_against_the_family_is_refused(
    tmp_path, images, words, family, said
):
    said_first = {"role": "system", "content": words}
    asked = {"role": "user", "content": f"Detect dog. {words}"}
    bare = {"role": "user", "content": "Detect dog."}
    answer = {"role": "assistant", "content": ANSWER}
    if family == "gemma":
        answer["content"] = ANSWER.replace("bbox_2d", "box_2d")
    for messages in ([asked, answer], [said_first, bare, answer], [asked, answer, bare, answer]):
        row = {"messages": messages, "images": ["a.jpg"]}
        samples, reasons, _ = read(tmp_path, images, row, family=family)
        assert sorted(map(len, (samples, reasons))) == [0, messages.count(answer)]
        assert bool(reasons) == bool(said)
        assert all("rows.jsonl:1: " in reason and said in reason for reason in reasons), reasons
